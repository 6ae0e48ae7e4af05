"""The input embedding of a Hugging Face checkpoint, without the rest of its model."""

import re
from pathlib import Path

import torch
from torch import Tensor
from transformers import CONFIG_MAPPING, AutoConfig, AutoModel, PreTrainedConfig

from define.huggingface.files import read_tokenizer
from define.measures.subject import Subject
from define.readers import open_tensors, read_json

__all__ = ["read_checkpoint"]

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def read_checkpoint(folder: str | Path, tensor: str | None = None) -> Subject:
    """Reads the input embedding of a checkpoint, and the words of its tokenizer.

    Of the weights, this table alone is read. Rows beyond the last word, which pad many tables to a
    round size, are left out; a row without a word between others is called `<id 7>`.

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
    name, table = _table(folder, config, tensor, len(words))
    if len(words) > len(table):
        raise ValueError(
            f"{folder}: the vocabulary has {len(words)} words, the table {name} {len(table)} rows."
        )
    shape = f"{len(table):,} x {table.shape[1]:,}"
    return Subject(
        folder.resolve().name,
        config.model_type,
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
    except ValueError:
        return ()
    table = model.get_input_embeddings().weight
    names = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, parameter in names if parameter is table)
