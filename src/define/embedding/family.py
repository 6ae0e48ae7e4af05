"""What is asked of any embedding, `torch.nn.Embedding` or one of this package."""

from typing import Any, cast

import torch
from torch import Tensor, nn

from define.embedding.base import Band, Embedding
from define.embedding.contract import check_resize, check_rows
from define.embedding.tables import resized
from define.embedding.target import Target

__all__ = [
    "approximate",
    "arguments",
    "as_bands",
    "bands",
    "draw",
    "is_exact",
    "made_rows",
    "map_bands",
    "parameter_groups",
    "resize",
    "row_cost",
    "set_rows",
    "share_rows",
    "solve",
    "solved_parameters",
    "tied_table",
    "unit_parameters",
    "whole_table",
]

_OPTIONS = ("max_norm", "norm_type", "scale_grad_by_freq", "sparse")


def tied_table(embedding: nn.Module) -> nn.Module:
    """The embedding whose table an output layer shares: the Map where there is one, else itself.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)
    """
    return embedding.tied_table() if isinstance(embedding, Embedding) else embedding


def arguments(embedding: nn.Module) -> dict[str, Any]:
    """Keyword arguments that rebuild an embedding, drawn anew.

    Raises:
        TypeError: If it is neither `torch.nn.Embedding` nor of this package.
    """
    if isinstance(embedding, Embedding):
        return embedding.arguments()
    names = ("num_embeddings", "embedding_dim", "padding_idx", *_OPTIONS)
    return {name: getattr(_plain(embedding), name) for name in names}


def bands(embedding: nn.Module) -> tuple[Band, ...] | None:
    """The bands of a vocabulary that is cut into tables of their own; None if it is one table."""
    return embedding.bands() if isinstance(embedding, Embedding) else None


def as_bands(embedding: nn.Module) -> tuple[Band, ...]:
    """The same as one band at least: of what is stored where it is as good, or computed."""
    if isinstance(embedding, Embedding):
        return embedding.as_bands()
    table = _plain(embedding)
    return (Band(0, table.num_embeddings, table.weight),)


def map_bands(embedding: nn.Module) -> tuple[Band, ...] | None:
    """The bands of the Map, of which there is at least one; None if there is no Map."""
    return embedding.map_bands() if isinstance(embedding, Embedding) else None


def unit_parameters(module: nn.Module) -> list[nn.Parameter]:
    """What embeddings compute their rows with, in any module that contains some.

    Expand and Reduce of DeFINE, the matrix of a projected embedding: all words share it, and it is
    read, not looked up. A table is not part of it, nor are the projections of an adaptive one.

    Returns:
        Each parameter once, in the order of the modules.
    """
    embeddings = [part for part in module.modules() if isinstance(part, Embedding)]
    return list(dict.fromkeys(p for part in embeddings for p in part.unit_parameters()))


def parameter_groups(
    model: nn.Module,
    lr: float,
    unit_rate: float = 0.1,
    weight_decay: float | None = None,
    unit_weight_decay: float | None = None,
) -> list[dict[str, Any]]:
    """Groups for any optimizer of torch, with a learning rate of its own for the unit.

    One step of Adam in the unit moves all words at once, in proportion to the width that is read;
    at a tenth of the rate, models with DeFINE or a projected embedding train best.

    Args:
        model: Any model that contains embeddings of this package.
        lr: Learning rate.
        unit_rate: Factor on it for :func:`unit_parameters`.
        weight_decay: Weight decay; the optimizer's own if omitted.
        unit_weight_decay: That of the unit; `weight_decay` if omitted.

    Returns:
        The group of all other parameters and, unless the unit is empty or treated alike, that of
        the unit.

    Raises:
        ValueError: If a rate is not above 0, or a decay below 0.

    Example:
        >>> from define import DeFINE
        >>> model = nn.Sequential(DeFINE(1000, 64, map=16), nn.Linear(64, 10))
        >>> optimizer = torch.optim.AdamW(parameter_groups(model, lr=0.01), betas=(0.9, 0.98))
        >>> [group["lr"] for group in optimizer.param_groups]
        [0.01, 0.001]
    """
    if not (lr > 0 and unit_rate > 0):
        raise ValueError(f"{lr=} and {unit_rate=} must be above 0.")
    decays = (weight_decay, weight_decay if unit_weight_decay is None else unit_weight_decay)
    if any(decay is not None and not decay >= 0 for decay in decays):
        raise ValueError(f"{weight_decay=} and {unit_weight_decay=} must be at least 0.")
    parameters, unit = list(model.parameters()), set(unit_parameters(model))
    if unit_rate == 1 and decays[0] == decays[1]:
        unit = set()
    groups: list[dict[str, Any]] = []
    for rate, decay, inside in ((lr, decays[0], False), (lr * unit_rate, decays[1], True)):
        members = [p for p in parameters if (p in unit) is inside]
        if members or not inside:
            options = {} if decay is None else {"weight_decay": decay}
            groups.append({"params": members, "lr": rate, **options})
    return groups


def resize(embedding: nn.Module, num_embeddings: int, mean: bool = False) -> None:
    """Changes the number of rows of an embedding in place; see :meth:`Embedding.resize`."""
    if isinstance(embedding, Embedding):
        return embedding.resize(num_embeddings, mean)
    table = _plain(embedding)
    check_resize(num_embeddings, table.padding_idx)
    table.weight = nn.Parameter(
        resized(table.weight, num_embeddings, mean=mean), requires_grad=table.weight.requires_grad
    )
    table.num_embeddings = num_embeddings


@torch.no_grad()
def set_rows(embedding: nn.Module, ids: Tensor, rows: Tensor) -> Tensor:
    """Sets rows of an embedding; see :meth:`Embedding.set_rows`.

    Returns:
        The relative error of each row; 0 in a plain table.
    """
    if isinstance(embedding, Embedding):
        return embedding.set_rows(ids, rows)
    table = _plain(embedding)
    check_rows(table, ids, rows)
    table.weight[ids] = rows.to(table.weight.dtype)
    return rows.new_zeros(len(rows))


def made_rows(embedding: nn.Module, stop: int | None = None, start: int = 0) -> Tensor:
    """Rows of a table (all if nothing is given) as a step has them, made once a step."""
    if isinstance(embedding, Embedding):
        return embedding.made_rows(stop, start)
    weight = cast(Tensor, embedding.weight)
    return weight if start == 0 and stop in (None, len(weight)) else weight[start:stop]


def share_rows(embedding: nn.Module, *stops: int) -> None:
    """Lets look-ups in an embedding index what :func:`made_rows` gives, in parts up to `stops`."""
    if isinstance(embedding, Embedding):
        embedding.share_rows(*stops)


def whole_table(embedding: nn.Module) -> Tensor:
    """The whole table (V, m) as a plain tensor, computed where it is not stored."""
    if isinstance(embedding, Embedding):
        return embedding.whole_table()
    return cast(Tensor, embedding.weight)


@torch.no_grad()
def draw(embedding: nn.Module, std: float) -> None:
    """Draws an embedding anew, its table and output with entries of deviation `std`."""
    if isinstance(embedding, Embedding):
        embedding.std = std
        return embedding.reset_parameters()
    table = _plain(embedding)
    table.weight.normal_(std=std)
    _zero_padding(table)


@torch.no_grad()
def approximate(embedding: nn.Module, target: Target) -> None:
    """Sets an embedding to the best approximation of a table that there is a formula for."""
    if isinstance(embedding, Embedding):
        return embedding.approximate(target)
    table = _plain(embedding)
    table.weight.copy_(target.table)
    _zero_padding(table)


def is_exact(embedding: nn.Module) -> bool:
    """Whether :func:`approximate` leaves nothing to improve."""
    return embedding.is_exact if isinstance(embedding, Embedding) else True


@torch.no_grad()
def solve(embedding: nn.Module, target: Target) -> bool:
    """Sets what rows are linear in to its least-squares solution; False if there is nothing."""
    return isinstance(embedding, Embedding) and embedding.solve(target)


def solved_parameters(embedding: nn.Module) -> list[nn.Parameter]:
    """What :func:`solve` sets and gradient steps should leave to it."""
    return embedding.solved_parameters() if isinstance(embedding, Embedding) else []


def row_cost(embedding: nn.Module) -> int:
    """Multiply-adds to compute one row; 0 for a look-up."""
    return embedding.row_cost() if isinstance(embedding, Embedding) else 0


def _plain(embedding: nn.Module) -> nn.Embedding:
    if not isinstance(embedding, nn.Embedding):
        raise TypeError(
            f"{type(embedding).__name__} must be torch.nn.Embedding or an embedding of this "
            "package: a subclass of define.Embedding."
        )
    return cast(nn.Embedding, embedding)


def _zero_padding(table: nn.Embedding) -> None:
    if table.padding_idx is not None:
        cast(Tensor, table.weight)[table.padding_idx].zero_()
