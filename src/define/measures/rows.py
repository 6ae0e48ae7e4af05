"""Any embedding as chunks of rows: ours, `torch.nn.Embedding`, or a plain matrix."""

from collections.abc import Iterator
from typing import cast

import torch
from torch import Tensor, nn

from define.embedding import Embedding
from define.modes import evaluating

__all__ = [
    "Table",
    "checked_weights",
    "gather_rows",
    "held",
    "row_chunks",
    "table_shape",
]

Table = Tensor | nn.Module
"""A (V, m) matrix, a module with such a `weight` (`model.get_input_embeddings()` of Hugging Face),
or an embedding of this package, whose rows are computed chunk by chunk."""

_ROWS = 4096  # at a time: 32 MB at 1024 features in float64
_LIMIT = 2**30  # bytes


def table_shape(table: Table) -> tuple[int, int]:
    """Number of rows V and width m.

    Raises:
        TypeError: If `table` is neither a tensor nor a module with a `weight`.
        ValueError: If it is not a (V, m) matrix of real numbers, with at least one row and column.
    """
    if isinstance(table, Embedding):  # before `weight`, which would compute all of it
        return table.num_embeddings, table.embedding_dim
    matrix = _matrix(table)
    if matrix.dim() != 2 or 0 in matrix.shape or not matrix.is_floating_point():
        raise ValueError(
            f"A table must be (V, m) real numbers, not {tuple(matrix.shape)} of {matrix.dtype}."
        )
    return matrix.shape[0], matrix.shape[1]


@torch.no_grad()
def row_chunks(table: Table, size: int = _ROWS) -> Iterator[tuple[Tensor, Tensor]]:
    """Ids and rows of a table in order, without gradients.

    Ids are (chunk,) int64 on the CPU; rows are (chunk, m) on the table's device.
    """
    count, _ = table_shape(table)
    if isinstance(table, Embedding):
        device = next(table.parameters()).device
        with evaluating(table):
            for ids in torch.arange(count).split(size):
                yield ids, table(ids.to(device))
    else:
        matrix = _matrix(table).detach()
        for ids in torch.arange(count).split(size):
            yield ids, matrix[ids[0] : ids[-1] + 1]


@torch.no_grad()
def gather_rows(table: Table, ids: Tensor) -> Tensor:
    """The rows of some ids, (words, m) float32 on the CPU, without gradients.

    Raises:
        IndexError: If an id is outside of the table.
    """
    size, _ = table_shape(table)
    for id_ in ids.tolist():
        if not 0 <= id_ < size:
            raise IndexError(f"id {id_} is outside of a table of {size} rows.")
    if isinstance(table, Embedding):
        with evaluating(table):
            return table(ids.to(next(table.parameters()).device)).float().cpu()
    matrix = _matrix(table).detach()
    return matrix[ids.to(matrix.device)].float().cpu()


def held(table: Table, limit: int = _LIMIT) -> Table:
    """An embedding that computes its rows as the table of them, for those who read it repeatedly.

    Args:
        table: A (V, m) matrix or an embedding module.
        limit: Bytes from which on a table is not held but computed at each reading.

    Returns:
        (V, m) rows on the CPU; `table` itself if it has such a matrix, or if it is too large.
    """
    if not isinstance(table, Embedding):
        return table
    shape, dtype = table_shape(table), next(table.parameters()).dtype
    if shape[0] * shape[1] * dtype.itemsize > limit:
        return table
    rows = torch.empty(shape, dtype=dtype)
    for ids, chunk in row_chunks(table):
        rows[ids[0] : ids[-1] + 1] = chunk
    return rows


def checked_weights(weights: Tensor | None, count: int) -> Tensor | None:
    """Weights of rows, such as frequencies of words, in float64 on the CPU.

    Raises:
        ValueError: If they are not (V,) finite numbers of at least 0, some above.
    """
    if weights is None:
        return None
    if weights.shape != (count,):
        raise ValueError(f"weights {tuple(weights.shape)} must be one for each of {count} rows.")
    weights = weights.to("cpu", torch.float64)
    if not torch.isfinite(weights).all() or weights.min() < 0 or weights.max() == 0:
        low, high = weights.min().item(), weights.max().item()
        raise ValueError(f"weights from {low} to {high} must be finite, at least 0, some above.")
    return weights


def _matrix(table: Table) -> Tensor:
    matrix = table if isinstance(table, Tensor) else getattr(table, "weight", None)
    if not isinstance(matrix, Tensor):
        raise TypeError(f"{type(table).__name__} is neither a tensor nor has it a weight.")
    return cast(Tensor, matrix)
