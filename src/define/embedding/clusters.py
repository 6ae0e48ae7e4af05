"""A few rows that many rows are near to."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["k_means", "nearest_rows"]

_STEPS = 15
_SAMPLE = 1 << 16  # rows of the greatest weight, of which means are made


@torch.no_grad()
def k_means(
    rows: Float[Tensor, "rows features"], weights: Float[Tensor, " rows"], count: int
) -> Float[Tensor, "count features"]:
    """Means of `count` clusters with the least weighted squared distance that Lloyd's steps find.

    Reference:
        | Least Squares Quantization in PCM (Lloyd 1982)

    Args:
        rows: At least `count`.
        weights: What a distance costs; not all zero.
        count: Number of means.
    """
    sample = weights.argsort(descending=True, stable=True)[:_SAMPLE]
    rows, weights = rows[sample], weights[sample]
    # The same start on any machine: rows of all weights.
    means = rows[torch.linspace(0, len(rows) - 1, count, device=rows.device).long()].clone()
    for _ in range(_STEPS):
        near = nearest_rows(rows, means)
        total = weights.new_zeros(count).index_add_(0, near, weights)
        sums = torch.zeros_like(means).index_add_(0, near, rows * weights[:, None])
        means = torch.where(total[:, None] > 0, sums / total.clamp_min(1e-30)[:, None], means)
    return means


def nearest_rows(
    rows: Float[Tensor, "rows features"], table: Float[Tensor, "count features"]
) -> Int[Tensor, " rows"]:
    """Of each row, the id of the nearest row of a small table."""
    half = table.square().sum(1) / 2
    return torch.cat([(half - chunk @ table.mT).argmin(1) for chunk in rows.split(8192)])
