"""How alike two embeddings of one vocabulary are, whatever the orientation of their spaces."""

from dataclasses import dataclass

import torch
from torch import Tensor

from define.measures.correlation import Moments
from define.measures.rows import Table, checked_weights, row_chunks, table_shape

__all__ = ["Similarity", "similarity"]


@dataclass(frozen=True)
class Similarity:
    """Likeness of two tables; 1 for tables that differ by rotation, scale and offset alone.

    Attributes:
        cka: Linear centred kernel alignment, 0 … 1 (Kornblith et al. 2019, Eq. 4): do the same
            words lie close together? Two independent tables of V rows have about
            √(r_1 r_2) / V, where r are their participation ratios, not 0.
        rotated_correlation: Mean over the second table's dimensions of the correlation with the
            first table after the rotation that brings it nearest (orthogonal Procrustes,
            Schönemann 1966).
    """

    cka: float
    rotated_correlation: float


def similarity(first: Table, second: Table, weights: Tensor | None = None) -> Similarity:
    """Compares two embeddings of the same vocabulary, row by row.

    Dimensions that are constant or have values that are not finite do not count, see
    :func:`~define.measures.correlation`, which names them.

    Args:
        first: A (V, m_1) matrix or an embedding module.
        second: (V, m_2); a rotation between different widths leaves out, or adds, dimensions.
        weights: (V,) weight of each row; each counts 1 if omitted.

    Returns:
        The two measures; NaN where a table has no dimension that counts.

    Raises:
        ValueError: If the tables have different numbers of rows.
    """
    (count, width), (other, _) = table_shape(first), table_shape(second)
    if count != other:
        raise ValueError(f"The tables have {count} and {other} rows: not one vocabulary.")
    weights = checked_weights(weights, count)
    moments = Moments(width + table_shape(second)[1])
    for (ids, a), (_, b) in zip(row_chunks(first), row_chunks(second), strict=True):
        rows = torch.cat([a.cpu(), b.cpu()], -1)
        moments.add(rows, None if weights is None else weights[ids])

    covariance = moments.covariance()
    aa, ab, bb = covariance[:width, :width], covariance[:width, width:], covariance[width:, width:]
    cka = ab.square().sum() / (aa.norm() * bb.norm())

    u, _, vh = torch.linalg.svd(ab, full_matrices=False)
    rotation = u @ vh  # (m_1, m_2), the orthogonal matrix that maximizes tr(rotationᵀ ab)
    with_second = (rotation * ab).sum(0)
    variance = ((aa @ rotation) * rotation).sum(0)
    correlations = with_second / (variance * bb.diagonal()).sqrt()
    return Similarity(cka.item(), correlations[bb.diagonal() > 0].mean().item())
