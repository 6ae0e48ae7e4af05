"""Folders of checkpoints: the table in them, what is carried along, what tells how to load them."""

import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, cast

import torch
from torch import Tensor
from transformers import (
    CONFIG_MAPPING,
    AutoConfig,
    AutoModel,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from define.embedding.base import table_size
from define.huggingface.install import places_of
from define.measures.subject import Subject
from define.readers import BYTE_ORDER_MARK, open_tensors, read_json

__all__ = [
    "LOADER",
    "LOADER_TEXT",
    "carry_files",
    "check_tokenizer",
    "read_checkpoint",
    "read_tokenizer",
    "write_readme",
]

LOADER = "modeling_define.py"
LOADER_TEXT = '''"""Finds the package that this checkpoint needs, with `trust_remote_code=True`."""

try:
    from define.huggingface import DefineConfig  # noqa: F401
except ImportError as error:
    raise ImportError(
        "This checkpoint has an embedding of the package define-embeddings: "
        "pip install 'define-embeddings[huggingface]'"
    ) from error
'''
_README = """---
library_name: transformers
tags:
- define-embeddings
---

# {base} with embeddings of define-embeddings

Its token table is stored in fewer bytes, or computed from a smaller one.

{what}## Loading

`pip install 'define-embeddings[huggingface]'`, then

```python
import define.huggingface  # the auto classes then know this model
from transformers import AutoModel  # or AutoModelForCausalLM, ...

model = AutoModel.from_pretrained("FOLDER")
```

or without the import: `AutoModel.from_pretrained(FOLDER, trust_remote_code=True)`.
`define.huggingface.export(model)` gives a plain model that any program loads.
"""
# What another model writes anew, its weights in another form, and the figure of its README.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".ot")
_OWN = ("config.json", "generation_config.json", "README.md", "compression.svg", LOADER)
_FOREIGN = ("onnx", "openvino", "coreml", ".git", ".cache")
_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def carry_files(source: str | os.PathLike, target: str | os.PathLike) -> list[str]:
    """Copies all that a checkpoint's folder holds besides the model's weights and configuration.

    Tokenizers, processors, chat templates, and the modules of sentence-transformers, some of which
    have weights, in folders of their own. Folders in it that hold other models stay where they are:
    checkpoints of a training, and what is written to one of them right now.

    Returns:
        The names of the files, relative to the folder.
    """
    source, target = Path(source), Path(target)
    names = []
    models = {path.parent for path in source.rglob("config.json") if _is_models(path)} - {source}
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        if models.intersection(path.parents):
            continue
        own = len(name.parts) == 1 and (
            name.name in _OWN or name.suffix in _WEIGHTS or name.name.endswith(".index.json")
        )
        if path.is_file() and not own and name.parts[0] not in _FOREIGN:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
            names.append(str(name))
    return names


def _is_models(config: Path) -> bool:
    return config.is_file() and b'"model_type"' in config.read_bytes()


def read_tokenizer(folder: str | os.PathLike, **options: Any) -> Any:  # noqa: ANN401
    """The tokenizer of a checkpoint's folder, also where its files begin with byte-order marks.

    transformers takes such a mark in `vocab.txt` for part of the first word, and refuses it in
    `tokenizer.json`.
    """
    folder = Path(folder)
    marked = [path for path in folder.iterdir() if path.suffix in (".json", ".txt")]
    if not any(map(_is_marked, marked)):
        return AutoTokenizer.from_pretrained(folder, **options)
    with TemporaryDirectory() as name:
        carry_files(folder, name)
        shutil.copyfile(folder / "config.json", Path(name, "config.json"))
        for path in filter(_is_marked, Path(name).iterdir()):
            path.write_bytes(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
        return AutoTokenizer.from_pretrained(name, **options)


def _is_marked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that every id of a tokenizer has a row in the model's input embedding.

    Raises:
        ValueError: If the tokenizer is larger than the table, pads with another id, or the model
            has several parts and says of none that it reads the tokens.
    """
    try:
        embedding: Any = model.get_input_embeddings()
    except NotImplementedError as error:
        raise ValueError(f"{type(model).__name__} has no input embedding of its own.") from error
    rows, _ = table_size(embedding)
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise ValueError(
            f"The tokenizer has ids up to {largest}, {len(tokenizer)} in all, the embedding of "
            f"{type(model).__name__} has {rows} rows: call "
            f"resize_token_embeddings({largest + 1}) first."
        )
    padding_idx = embedding.padding_idx
    pad_token_id = tokenizer.pad_token_id
    if None not in (padding_idx, pad_token_id) and padding_idx != pad_token_id:
        raise ValueError(f"{pad_token_id=} of the tokenizer must be the model's {padding_idx=}.")


def write_readme(
    folder: str | os.PathLike,
    model: PreTrainedModel,
    lines: Sequence[str] = (),
    picture: str | None = None,
) -> None:
    """Writes a model card: what the embedding is, how to load it, and what else is to say.

    Args:
        folder: Of the checkpoint.
        model: A model with an embedding of this package.
        lines: What was done and what it cost, such as the lines of a compression's report.
        picture: Name of a figure of that, in the folder.
    """
    what = "".join(
        f"`{place.name}`:\n\n```text\n{place.embedding(model)}\n```\n\n"
        for place in places_of(model)
    )
    if lines:
        what += "\n".join(("## What was done, and what it cost\n\n```text", *lines, "```\n\n"))
        what += "" if picture is None else f"![{picture}]({picture})\n\n"
    text = _README.format(base=type(model).__name__.removeprefix("Define"), what=what)
    Path(folder, "README.md").write_text(text, encoding="utf-8")


def read_checkpoint(folder: str | Path, tensor: str | None = None) -> Subject:
    """Reads the input embedding of a checkpoint, and the words of its tokenizer.

    Of the weights, this table alone is read, unless an embedding of this package computes it. Rows
    beyond the last word, which pad many tables to a round size, are left out; a row without a word
    between others is called `<id 7>`.

    A model of a kind that transformers does not know, or that is made by code of its own, is read
    too: nothing of that code is run, and the table is found by its name.

    Args:
        folder: As `save_pretrained` of a model and a tokenizer writes it, with safetensors.
        tensor: Name of the table; the one that the model says is its input embedding if omitted.

    Raises:
        OSError: If a file is missing.
        ValueError: If the configuration names no kind of model, the table is not there or may be
            one of several (they are listed), or the tokenizer has more words than rows.
    """
    folder = Path(folder)
    config = _config(folder)
    vocabulary = read_tokenizer(folder, **_LOCAL).get_vocab()
    words = [f"<id {i}>" for i in range(max(vocabulary.values(), default=-1) + 1)]
    for word, id_ in vocabulary.items():
        words[id_] = word
    kind = config.model_type
    if tensor is None and "embedding" in getattr(config, "define", {}):
        model = AutoModel.from_pretrained(folder, **_LOCAL)
        place = next(place for place in places_of(model) if place.table is None)
        embedding = place.embedding(model)
        name, kind = place.name, type(embedding).__name__
        table = cast(Tensor, embedding.weight).detach()  # no tensor of the file is it
    else:
        name, table = _table(folder, config, tensor, len(words))
    if len(words) > len(table):
        raise ValueError(
            f"{folder}: the vocabulary has {len(words)} words, the table {name} {len(table)} rows."
        )
    shape = f"{len(table):,} x {table.shape[1]:,}"
    return Subject(
        folder.resolve().name,
        kind,
        table[: len(words)],
        tuple(words),
        f"# {name}, {shape}, of which {len(words):,} rows have a word\n{config.to_json_string()}",
    )


def _config(folder: Path) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(folder, **_LOCAL)
    except ValueError:
        settings = read_json(folder / "config.json")
        kind = settings.get("model_type") if isinstance(settings, dict) else None
        if not isinstance(kind, str) or kind in CONFIG_MAPPING:
            raise
        config = PreTrainedConfig.from_dict(settings)
        config.model_type = kind  # pyright: ignore[reportAttributeAccessIssue]
        return config


def _table(
    folder: Path, config: PreTrainedConfig, tensor: str | None, words: int
) -> tuple[str, Tensor]:
    """Name and values of the input embedding."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no weights in safetensors files.")
    shapes: dict[str, list[int]] = {}
    places: dict[str, Path] = {}
    for path in files:
        with open_tensors(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                shape = file.get_slice(name).get_shape()
                if len(shape) == 2:
                    shapes[name], places[name] = shape, path
    wanted = (tensor,) if tensor is not None else _input_embedding(config)
    # A model with an output has its parts under a prefix, such as "model.".
    ends = tuple(f".{name}" for name in wanted) if tensor is None else ()
    found = [name for name in shapes if name in wanted or name.endswith(ends)][:1]
    if not wanted:  # a kind that is not known
        tall = [name for name, (rows, _) in shapes.items() if rows >= words]
        found = [name for name in tall if re.search(r"wte|shared|emb(?!.*(pos|type|out))", name)]
    if len(found) == 1:
        with open_tensors(places[found[0]]) as file:
            return found[0], file.get_tensor(found[0])
    tallest = sorted(shapes.items(), key=lambda item: -item[1][0])[:8]  # a table has many rows
    listed = ", ".join(f"{name} ({rows:,} x {width:,})" for name, (rows, width) in tallest)
    what = f"no matrix {wanted[0]!r}" if wanted else f"{len(found)} matrices that may be the table"
    raise ValueError(f"{folder} has {what}; it has {listed}: name one with --table.")


def _input_embedding(config: PreTrainedConfig) -> tuple[str, ...]:
    """Names that a model of this kind has for the table it looks tokens up in; none if unknown."""
    try:
        with torch.device("meta"):
            model = AutoModel.from_config(config)
        table = model.get_input_embeddings().weight
    except (ValueError, NotImplementedError):  # one of several parts reads tokens, and none is said
        return ()
    names = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, parameter in names if parameter is table)
