"""Correlation inside an embedding: from the Map through each layer, and between groups."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from define.analysis.correlation import Correlation, Moments
from define.analysis.rows import Table, checked_weights, evaluating
from define.embedding import DeFINE, ProjectedEmbedding

__all__ = ["LayerCorrelation", "group_correlation", "layer_correlations"]

_ROWS = 4096


@dataclass(frozen=True)
class LayerCorrelation:
    """Correlations between the features of one layer.

    Attributes:
        name: "Map", "Expand 1", ..., "Reduce" (DeFINE) or "Projection".
        groups: Groups that the layer computes apart; 1 where it does not.
        correlation: Between its features.
        between_groups: (groups, groups), see :func:`group_correlation`.
    """

    name: str
    groups: int
    correlation: Correlation
    between_groups: Tensor


def layer_correlations(
    embedding: Table, weights: Tensor | None = None
) -> tuple[LayerCorrelation, ...]:
    """Correlations in the Map, after each layer of Expand, and after Reduce, over the vocabulary.

    Reference:
        The poster of DeFINE (METHOD.md, Sec. 5): with depth the correlations shrink.

    Args:
        embedding: DeFINE, or ProjectedEmbedding, which has a Map and a projection.
        weights: (V,) weight of each word; each counts 1 if omitted.

    Returns:
        The layers in order, the last one being the embedding's output; none for an embedding that
        has no layers.
    """
    if not isinstance(embedding, DeFINE | ProjectedEmbedding):
        return ()
    weights = checked_weights(weights, embedding.num_embeddings)
    names, groups = zip(*_layers(embedding), strict=True)
    found: list[Moments] = []
    with evaluating(embedding):
        device = next(embedding.parameters()).device
        for ids in torch.arange(embedding.num_embeddings).split(_ROWS):
            chunk = None if weights is None else weights[ids]
            for layer, rows in enumerate(_outputs(embedding, ids.to(device))):
                if layer == len(found):
                    found.append(Moments(rows.shape[-1]))
                found[layer].add(rows, chunk)
    return tuple(
        LayerCorrelation(name, g, c := moments.correlation(), group_correlation(c.matrix, g))
        for name, g, moments in zip(names, groups, found, strict=True)
    )


def group_correlation(matrix: Tensor, groups: int) -> Tensor:
    """Mean |correlation| between the features of any two groups of a layer.

    Args:
        matrix: (m, m) correlations; NaN where a feature has none, such features are left out.
        groups: Number of groups, each of m / groups neighbouring features.

    Returns:
        (groups, groups). On the diagonal, a feature's correlation with itself does not count; NaN
        where no pair is left.

    Raises:
        ValueError: If `groups` does not divide m.
    """
    width = matrix.shape[0]
    if groups < 1 or width % groups:
        raise ValueError(f"{groups=} must divide the width {width} of the matrix.")
    pairs = matrix.abs().clone()
    pairs.fill_diagonal_(torch.nan)
    blocks = pairs.unflatten(0, (groups, -1)).unflatten(2, (groups, -1))  # (g, m/g, g, m/g)
    return blocks.transpose(1, 2).flatten(2).nanmean(-1)


def _layers(embedding: DeFINE | ProjectedEmbedding) -> Iterator[tuple[str, int]]:
    """Name and number of groups of each layer."""
    yield "Map", 1
    if isinstance(embedding, ProjectedEmbedding):
        yield "Projection", 1
        return
    for layer, groups in enumerate(embedding.expand.groups, 1):
        yield f"Expand {layer}", groups
    if embedding.reduce is not None:
        yield "Reduce", 1


def _outputs(embedding: DeFINE | ProjectedEmbedding, ids: Tensor) -> Iterator[Tensor]:
    e_i = embedding.map(ids)
    yield e_i
    if isinstance(embedding, DeFINE):
        yield from embedding.expand.outputs(e_i)
        if embedding.reduce is None:
            return
    yield embedding(ids)
