"""The embedding of a Hugging Face checkpoint, from its files alone, without transformers."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from define.report.findings import Subject

if TYPE_CHECKING:
    from safetensors import safe_open

__all__ = ["is_checkpoint", "read_checkpoint"]

# How the names of input embeddings end, in GPT, Llama, BERT, T5, Marian and their like. Of several,
# the first in this order is the one that the others share.
_NAMES = (
    "shared.weight",
    "wte.weight",
    "embed_tokens.weight",
    "word_embeddings.weight",
    "tok_embeddings.weight",
    "token_embedding.weight",
    "word_embedding.weight",
    "embed_in.weight",
)
_INDEX = "model.safetensors.index.json"  # of weights in several files


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a Hugging Face checkpoint, rather than a run of ours."""
    return (folder / "config.json").is_file() and not (folder / "config.yaml").exists()


def read_checkpoint(folder: str | Path, tensor: str | None = None) -> Subject:
    """Reads the input embedding of a checkpoint, and the words of its tokenizer.

    Rows beyond the last word, which pad many tables to a round size, are left out; a row without a
    word between others is called `<id 7>`.

    Args:
        folder: With `config.json`, `model.safetensors` (or its parts and their index), and
            `tokenizer.json` (or `vocab.json`, or `vocab.txt`).
        tensor: Name of the table; found by the names that are usual if omitted.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If no tensor, or several, may be the table: those that may are listed; or if the
            tokenizer has more words than the table has rows.
    """
    folder = Path(folder)
    config = _object(folder / "config.json")
    words = _words(folder)
    name, table = _table(folder, tensor)
    if len(words) > len(table):
        raise ValueError(
            f"{folder}: the vocabulary has {len(words)} words, the table {name} {len(table)} rows."
        )
    kind = config.get("model_type")
    shape = f"{len(table):,} x {table.shape[1]:,}"
    return Subject(
        folder.resolve().name,
        str(kind) if kind else "checkpoint",
        table[: len(words)],
        words,
        f"# {name}, {shape}, of which {len(words):,} rows have a word\n"
        + (folder / "config.json").read_text("utf-8"),
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
    except ValueError as error:  # not UTF-8, or not JSON
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold one JSON object, not a {type(content).__name__}.")
    return content


def _words(folder: Path) -> tuple[str, ...]:
    """Word by id; ids without a word get a name."""
    if (path := folder / "tokenizer.json").is_file():
        content = _object(path)
        ids = dict(_vocabulary(content.get("model", {}).get("vocab", {})))
        ids |= {added["content"]: added["id"] for added in content.get("added_tokens", [])}
    elif (path := folder / "vocab.json").is_file():
        ids = dict(_vocabulary(_object(path)))
    elif (path := folder / "vocab.txt").is_file():
        ids = {word: i for i, word in enumerate(path.read_text("utf-8").split("\n")) if word}
    else:
        raise FileNotFoundError(f"{folder} has no tokenizer.json, vocab.json or vocab.txt.")
    if not ids:
        raise ValueError(f"{path} has no vocabulary.")
    words = [f"<id {i}>" for i in range(max(ids.values()) + 1)]
    for word, id_ in ids.items():
        words[id_] = word
    return tuple(words)


def _vocabulary(content: Mapping[str, int] | list[tuple[str, float]]) -> Iterator[tuple[str, int]]:
    """Words and ids: BPE and WordPiece keep a mapping, Unigram a list of words and scores."""
    if isinstance(content, Mapping):
        yield from content.items()
    else:
        yield from ((word, id_) for id_, (word, _) in enumerate(content))


def _table(folder: Path, tensor: str | None) -> tuple[str, Tensor]:
    """Name and values of the input embedding."""
    found: dict[str, tuple[Path, list[int]]] = {}  # matrices, their files and shapes
    for path in _weight_files(folder):
        with _opened(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                shape = file.get_slice(name).get_shape()
                if len(shape) == 2:
                    found[name] = path, shape
    if tensor is None:
        tensor = _usual(folder, {name: shape for name, (_, shape) in found.items()})
    elif tensor not in found:
        shapes = {name: shape for name, (_, shape) in found.items()}
        raise ValueError(f"{folder} has no matrix {tensor!r}; it has {_listed(shapes)}.")
    with _opened(found[tensor][0]) as file:
        table = file.get_tensor(tensor)
    if not table.is_floating_point():
        raise ValueError(f"{tensor} of {folder} is of {table.dtype}: not a table of real numbers.")
    return tensor, table


@contextmanager
def _opened(path: Path) -> "Iterator[safe_open]":
    from safetensors import SafetensorError, safe_open  # of the same extra as training

    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}.") from error


def _weight_files(folder: Path) -> list[Path]:
    if (index := folder / _INDEX).is_file():
        files = sorted(set(_object(index).get("weight_map", {}).values()))
        return [folder / name for name in files]
    path = folder / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no model.safetensors and no {_INDEX}.")
    return [path]


def _usual(folder: Path, shapes: Mapping[str, list[int]]) -> str:
    """The one matrix that is named like an input embedding."""
    for ending in _NAMES:
        found = [name for name in shapes if name == ending or name.endswith(f".{ending}")]
        if len(found) == 1:
            return found[0]
        if found:
            raise ValueError(
                f"{folder} has several tables, {_listed({n: shapes[n] for n in found})}: "
                "name one with --table."
            )
    raise ValueError(
        f"{folder} has no tensor that is named like an input embedding; its matrices are "
        f"{_listed(shapes)}: name one with --table."
    )


def _listed(shapes: Mapping[str, list[int]]) -> str:
    """Names and shapes of the tallest matrices: a table has more rows than most."""
    tallest = sorted(shapes.items(), key=lambda item: -item[1][0])[:8]
    more = f", and {len(shapes) - 8} more" if len(shapes) > 8 else ""
    return ", ".join(f"{name} ({rows:,} x {width:,})" for name, (rows, width) in tallest) + more
