"""The input embedding of a Hugging Face checkpoint, without the rest of its model."""

from pathlib import Path

import torch
from torch import Tensor
from transformers import AutoConfig, AutoModel, PretrainedConfig

from define.huggingface.files import read_tokenizer
from define.measures.subject import Subject
from define.readers import open_tensors

__all__ = ["read_checkpoint"]

_LOCAL = {"local_files_only": True, "trust_remote_code": False}


def read_checkpoint(folder: str | Path, tensor: str | None = None) -> Subject:
    """Reads the input embedding of a checkpoint, and the words of its tokenizer.

    Of the weights, this table alone is read. Rows beyond the last word, which pad many tables to a
    round size, are left out; a row without a word between others is called `<id 7>`.

    Args:
        folder: As `save_pretrained` of a model and a tokenizer writes it, with safetensors.
        tensor: Name of the table; the one that the model says is its input embedding if omitted.

    Raises:
        OSError: If a file is missing.
        ValueError: If the model is of no kind that transformers knows, the table is not there
            (matrices that may be meant are listed), or the tokenizer has more words than rows.
    """
    folder = Path(folder)
    config = AutoConfig.from_pretrained(folder, **_LOCAL)
    vocabulary = read_tokenizer(folder, **_LOCAL).get_vocab()
    words = [f"<id {i}>" for i in range(max(vocabulary.values(), default=-1) + 1)]
    for word, id_ in vocabulary.items():
        words[id_] = word
    name, table = _table(folder, config, tensor)
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


def _table(folder: Path, config: PretrainedConfig, tensor: str | None) -> tuple[str, Tensor]:
    """Name and values of the input embedding."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise FileNotFoundError(f"{folder} has no weights in safetensors files.")
    # A model with an output has its parts under a prefix, such as "model.".
    names = _input_embedding(config) if tensor is None else (tensor,)
    ends = tuple(f".{name}" for name in names) if tensor is None else ()
    shapes: dict[str, list[int]] = {}
    for path in files:
        with open_tensors(path) as file:
            for name in file.keys():  # noqa: SIM118 - not a mapping
                shape = file.get_slice(name).get_shape()
                if len(shape) == 2:
                    if name in names or name.endswith(ends):
                        return name, file.get_tensor(name)
                    shapes[name] = shape
    tallest = sorted(shapes.items(), key=lambda item: -item[1][0])[:8]  # a table has many rows
    listed = ", ".join(f"{name} ({rows:,} x {width:,})" for name, (rows, width) in tallest)
    raise ValueError(
        f"{folder} has no matrix {names[0]!r}; it has {listed}: name one with --table."
    )


def _input_embedding(config: PretrainedConfig) -> tuple[str, ...]:
    """Names that a model of this kind has for the table it looks tokens up in."""
    with torch.device("meta"):
        model = AutoModel.from_config(config)
    table = model.get_input_embeddings().weight
    names = model.named_parameters(remove_duplicate=False)
    return tuple(name for name, parameter in names if parameter is table)
