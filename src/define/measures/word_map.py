"""A two-dimensional map of words: the plane in which their vectors differ most."""

from dataclasses import dataclass

import torch
from torch import Tensor

from define.measures.rows import Table, gather_rows

__all__ = ["WordMap", "word_map"]


@dataclass(frozen=True)
class WordMap:
    """Places of words on the first two principal axes.

    Attributes:
        ids: (words,) which.
        places: (words, 2) float64.
        explained: Share of the words' variance along each axis.
    """

    ids: Tensor
    places: Tensor
    explained: tuple[float, float]


def word_map(table: Table, ids: Tensor) -> WordMap:
    """Principal components of the vectors of some words, such as the most frequent ones.

    The sign of an axis is free; here the largest of its weights on the dimensions is positive, so
    that the same table always gives the same map.

    Args:
        table: A (V, m) matrix or an embedding module.
        ids: (words,) at least 3 ids.

    Raises:
        ValueError: If there are fewer than 3 words, the vectors are narrower than 2, or a row is
            not finite.
    """
    rows = gather_rows(table, ids).double()
    if len(rows) < 3 or rows.shape[1] < 2:
        raise ValueError(f"A map needs 3 words of 2 dimensions at least, not {tuple(rows.shape)}.")
    wrong = ~rows.isfinite().all(-1)
    if wrong.any():
        raise ValueError(f"Row {ids[wrong][0].item()} of the table is not finite.")
    rows -= rows.mean(0)
    u, s, axes = torch.linalg.svd(rows, full_matrices=False)
    largest = axes[:2].abs().argmax(-1, keepdim=True)
    sign = axes[:2].gather(-1, largest).sign().flatten()
    variances = s.square()
    shares = (variances[:2] / variances.sum().clamp(min=torch.finfo(s.dtype).tiny)).tolist()
    return WordMap(ids, u[:, :2] * s[:2] * sign, (shares[0], shares[1]))
