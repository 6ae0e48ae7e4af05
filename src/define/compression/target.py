"""The table that an embedding is fitted to."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.embedding.base import table_size

__all__ = ["Target", "check_target"]


@dataclass(frozen=True)
class Target:
    """A table (V, m), a weight for each of its rows (V), and how many rows to take at a time."""

    table: Float[Tensor, "rows features"]
    weights: Float[Tensor, " rows"]
    chunk: int = 8192

    def chunks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Rows and their weights, a chunk at a time."""
        return zip(self.table.split(self.chunk), self.weights.split(self.chunk), strict=True)

    def id_chunks(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The same with the ids in front."""
        ids = torch.arange(len(self.table), device=self.table.device)
        for chunk, (rows, w) in zip(ids.split(self.chunk), self.chunks(), strict=True):
            yield chunk, rows, w

    def energy(self) -> float:
        """Weighted sum of squares of the table."""
        return sum(float(w.double() @ rows.double().square().sum(1)) for rows, w in self.chunks())

    @torch.no_grad()
    def error(self, embedding: nn.Module) -> float:
        """Weighted squared error of an embedding, relative to the table's own sum of squares."""
        error = 0.0
        for ids, rows, w in self.id_chunks():
            squares = (embedding(ids) - rows).square().sum(1)
            # A row that does not count may be anything, even infinite.
            error += float(w.double() @ torch.where(w > 0, squares, 0.0).double())
        return error / self.energy()


def check_target(
    table: Tensor, embedding: nn.Module, weights: Tensor | None, chunk_size: int
) -> Target:
    """The target of a fit on the device and in the type of the embedding.

    Raises:
        ValueError: If shapes do not fit one another, a number is not finite, a weight is negative,
            nothing has a weight, or the table is zero.
        TypeError: If `embedding` is no embedding.
    """
    size = table_size(embedding)
    if tuple(table.shape) != size:
        raise ValueError(f"{tuple(table.shape)=} must equal the embedding's {size}.")
    if chunk_size < 1:
        raise ValueError(f"{chunk_size=} must be at least 1.")
    like = next(embedding.parameters())
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"The embedding must be float32 or float64 to be fitted, not {like.dtype}."
        )
    wrong = (~table.isfinite().all(1)).nonzero().flatten()
    if len(wrong):
        raise ValueError(
            f"The table must be finite, but {len(wrong)} of {len(table)} rows are not, the first "
            f"is row {int(wrong[0])}."
        )
    if weights is None:
        weights = table.new_ones(len(table), dtype=torch.float64)
    if weights.shape != table.shape[:1]:
        raise ValueError(
            f"{tuple(weights.shape)=} must be one weight for each row of {tuple(table.shape)=}."
        )
    weights = weights.to(like.device, torch.float64, copy=True)
    if not weights.isfinite().all() or weights.min() < 0:
        worst = weights[~weights.isfinite()] if not weights.isfinite().all() else weights.min()
        raise ValueError(f"Weights must be finite and at least 0, not {float(worst.flatten()[0])}.")
    padding_idx = getattr(embedding, "padding_idx", None)
    if padding_idx is not None:
        weights[padding_idx] = 0.0  # that row is zero, whatever the table has there
    if not weights.sum() > 0:
        raise ValueError(f"{weights.sum()=} must be above 0: no row counts.")
    # A mean of 1 keeps sums of products in float32 within range, whatever unit counts have.
    weights = weights * (len(weights) / weights.sum())
    target = Target(table.to(like), weights.to(like.dtype), chunk_size)
    if not target.energy() > 0:
        raise ValueError("The table must not be zero in every row that has a weight.")
    return target
