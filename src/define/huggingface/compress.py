"""Smaller tables for a checkpoint."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import torch
import transformers
from torch import Tensor, nn
from transformers import AutoConfig, AutoModel, PreTrainedModel, PreTrainedTokenizerBase

from define.compression import Compressed, compress_table, fit_embedding, stored_bytes
from define.embedding import tied_table
from define.embedding.base import table_size
from define.huggingface.files import check_tokenizer, read_tokenizer
from define.huggingface.install import TiedHead
from define.huggingface.model import register
from define.huggingface.replace import replace_embedding
from define.huggingface.tables import chosen_tables, find_tables

__all__ = ["Compression", "Size", "compress", "compress_to", "load_plain"]


@dataclass(frozen=True)
class Size:
    """Parameters and bytes, each tensor counted once however often it is used."""

    parameters: int
    bytes: int


@dataclass(frozen=True)
class Compression:
    """What a compression did to a model: relative errors of tables, sizes before and after."""

    linear_error: float  # of the best linear factorization with this Map
    error: float
    head_error: float | None  # None if no head is tied
    embedding: tuple[Size, Size]
    model: tuple[Size, Size]
    tables: Mapping[str, Compressed] = field(default_factory=dict)  # tried, for a number of bytes

    def __str__(self) -> str:
        lines = [f"{name}:\n{found}" for name, found in self.tables.items()]
        linear = "" if self.tables else f" (linear {self.linear_error:.4f})"
        lines.append(f"relative error of the table: {self.error:.4f}{linear}")
        if self.head_error is not None:
            lines.append(f"relative error of the tied head's table: {self.head_error:.4f}")
        for name, (before, after) in (("embedding", self.embedding), ("model", self.model)):
            parameters = f"{before.parameters:,} -> {after.parameters:,} parameters"
            parameters += f" ({after.parameters / before.parameters:.3f}), "
            stored = f"{before.bytes:,} -> {after.bytes:,} bytes"
            # Packed numbers are no parameters: of them bytes tell.
            share = f" ({after.bytes / before.bytes:.4f})"
            lines.append(f"{name}: {f'{stored}{share}' if self.tables else parameters + stored}")
        return "\n".join(lines)


def compress(
    model: PreTrainedModel,
    factory: Callable[[int, int, int | None], nn.Module],
    weights: Tensor | None = None,
    *,
    rounds: int = 40,
    seed: int = 0,
    progress: bool | None = None,
) -> tuple[PreTrainedModel, Compression]:
    """A model with an embedding that is fitted to its token table in that one's place.

    A head that was tied to the table is tied to the Map, and its projection is the least-squares
    one; a constant that this leaves out is the same for all words and changes no probability.

    Args:
        model: A plain model of transformers; it stays as it is.
        factory: Makes the embedding from (num_embeddings, embedding_dim, padding_idx).
        weights: What an error in each row costs, such as counts of the tokens (V).
        rounds: Most rounds of :func:`~define.fit_embedding`.
        seed: Of the fit.
        progress: Whether to show a progress bar; if omitted, on a terminal alone.

    Raises:
        ValueError: If the model has no input embedding or one of this package already, or its head
            is tied and the Map as wide as the table.
    """
    table = chosen_tables(model, None)[0]
    register(type(model.config))  # refuses what could not be loaded again
    old, whole = _size(table.module), _size(model)
    rows = table.weight.detach().float()
    num_embeddings, embedding_dim = rows.shape
    embedding = factory(num_embeddings, embedding_dim, table.padding_idx)
    map_dim = table_size(tied_table(embedding))[1]
    if table.heads and map_dim == embedding_dim:
        raise ValueError(
            f"{map_dim=} must be below {embedding_dim=}: the head is tied to the Map through a "
            "projection."
        )
    fit = fit_embedding(rows, embedding, weights, rounds=rounds, seed=seed, progress=progress)
    model = replace_embedding(model, embedding)
    new = _size(embedding)
    head = model.get_output_embeddings()
    head_error = _fit_head(head, rows, weights) if isinstance(head, TiedHead) else None
    return model, Compression(fit.start, fit.error, head_error, (old, new), (whole, _size(model)))


def compress_to(
    model: PreTrainedModel,
    weights: Tensor | None = None,
    *,
    share: float | None = None,
    max_bytes: int | None = None,
    metrics: Sequence[Tensor] | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> tuple[PreTrainedModel, Compression]:
    """A model whose token tables are stored within a number of bytes, in the best way for them.

    These are all that :func:`~define.huggingface.find_tables` finds. A head that was tied to a
    table reads the same stored rows.

    Args:
        model: A plain model of transformers; it stays as it is.
        weights: What an error in each row costs, such as counts of the tokens (V).
        share: Most bytes over those of the tables in float32, for each of them.
        max_bytes: Most bytes in all; give either.
        metrics: What an error costs by direction, for each table, see `sample.sensitivity`.
        report: Called with a line for each way that was tried.

    Raises:
        ValueError: If the model has no input embedding or one of this package already, or nothing
            keeps to the budget.
    """
    first = chosen_tables(model, None)[0]
    register(type(model.config))  # refuses what could not be loaded again
    tables = find_tables(model)
    whole = sum(4 * table.weight.numel() for table in tables)
    found: dict[str, Compressed] = {}
    for i, table in enumerate(tables):
        part = None if max_bytes is None else max_bytes * 4 * table.weight.numel() // whole
        fits = len(table.weight) == len(first.weight)
        found[table.name] = compress_table(
            table.weight,
            weights if fits else None,
            metric=None if metrics is None else metrics[i],
            share=share,
            max_bytes=part,
            padding_idx=table.padding_idx,
            report=lambda line, name=table.name: report(f"{name}: {line}"),
        )
    embeddings = {name: each.embedding for name, each in found.items()}
    keys = {name: None if name == first.name else name for name in embeddings}
    new = replace_embedding(model, {keys[name]: each for name, each in embeddings.items()})
    sizes = (
        _size(nn.ModuleList([table.module for table in tables])),
        _size(nn.ModuleList(embeddings.values())),
    )
    error = found[first.name].taken.error
    tied = error if first.heads else None
    return new, Compression(error, error, tied, sizes, (_size(model), _size(new)), found)


@torch.no_grad()
def _fit_head(head: TiedHead, table: Tensor, weights: Tensor | None) -> float:
    """Sets the head's projection so that its table is the nearest, up to a constant row."""
    map = cast(Tensor, head.tied.weight).detach().double()
    weights = table.new_ones(len(table)) if weights is None else weights
    w = (weights / weights.sum()).double()[:, None].to(table.device)
    # A row added to the whole table adds the same number to all logits.
    map, rows = map - (w * map).sum(0), table.double() - (w * table).sum(0)
    matrix = torch.linalg.lstsq(w.sqrt() * map, w.sqrt() * rows, driver="gelsd").solution
    cast(nn.Linear, head.projection).weight.copy_(matrix)
    map = map @ matrix
    return float((w * (map - rows).square()).sum() / (w * rows.square()).sum())


def _size(module: nn.Module) -> Size:
    return Size(sum(p.numel() for p in module.parameters()), stored_bytes(module))


def load_plain(folder: Path) -> tuple[PreTrainedModel, PreTrainedTokenizerBase | None]:
    """The model of a checkpoint folder, of its own class, and its tokenizer if it has one.

    Of a class whose head the folder has no weights for, the model without it.

    Raises:
        FileNotFoundError: If the folder is no checkpoint.
        ValueError: If its model is not one of transformers, or its tokenizer knows more tokens
            than the model.
    """
    if not (folder / "config.json").is_file():
        raise FileNotFoundError(f"{folder} is no checkpoint folder: it has no config.json.")
    config = AutoConfig.from_pretrained(folder)
    if hasattr(config, "define"):
        raise ValueError(f"{folder} already has an embedding of this package.")
    name = (config.architectures or ["(none)"])[0]
    cls = getattr(transformers, name, None)
    if cls is None:
        raise ValueError(
            f"{folder / 'config.json'} names the architecture {name}, not one of transformers."
        )
    model, info = cls.from_pretrained(folder, dtype="auto", output_loading_info=True)
    missing = sorted(info["missing_keys"])  # would be written as they are drawn
    if missing and transformers.MODEL_MAPPING.get(type(config), cls) is not cls:
        base, info = AutoModel.from_pretrained(folder, dtype="auto", output_loading_info=True)
        if len(info["missing_keys"]) < len(missing):  # as where sentence encoders name a head
            warnings.warn(f"{folder} lacks {missing[0]} of a {name}: read without.", stacklevel=2)
            model = base
    if not any(folder.glob("tokenizer*")) and not any(folder.glob("vocab.*")):
        return model, None
    tokenizer = read_tokenizer(folder)
    check_tokenizer(model, tokenizer)
    return model, tokenizer
