"""Correlation inside an embedding: from the Map through each layer, and between groups."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from define.embedding import Embedding
from define.measures.correlation import Correlation, Moments
from define.measures.rows import Table, checked_weights
from define.modes import evaluating

__all__ = [
    "LayerCorrelation",
    "group_correlation",
    "layer_correlations",
    "layers_by",
    "split_groups",
]

_ROWS = 4096
_SAMPLE = 1 << 16  # words over which the wide layers are measured, if there are more


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

    Inside Expand, whose layers are wide, products are taken in float32, see
    :class:`~define.measures.correlation.Moments`, and if there are more than 65,536 words over so
    many drawn at random in proportion to their weights; else in float64 and over all words.

    Reference:
        The poster of DeFINE: with depth the correlations shrink.

    Args:
        embedding: DeFINE, or ProjectedEmbedding, which has a Map and a projection.
        weights: (V,) weight of each word; each counts 1 if omitted.

    Returns:
        The layers in order, the last one being the embedding's output; none for an embedding that
        has no layers.
    """
    return layers_by(embedding, [weights])[0]


@torch.no_grad()
def layers_by(
    embedding: Table, weightings: Sequence[Tensor | None]
) -> tuple[tuple[LayerCorrelation, ...], ...]:
    """The same for several weightings at once, in one run of the unit over the vocabulary.

    Args:
        embedding: As of :func:`layer_correlations`.
        weightings: Weights as of :func:`layer_correlations`, for each result.
    """
    layers = embedding.layers() if isinstance(embedding, Embedding) else ()
    if not isinstance(embedding, Embedding) or not layers:
        return ((),) * len(weightings)
    checked = [checked_weights(weights, embedding.num_embeddings) for weights in weightings]
    # Of products, see Moments: exact at both ends, fast for the wide layers between them.
    ends = (0, len(layers) - 1)
    types = [torch.float64 if i in ends else torch.float32 for i in range(len(layers))]
    found = [
        [Moments(layer.width, dtype) for layer, dtype in zip(layers, types, strict=True)]
        for _ in checked
    ]
    sampled = [_sampled(weights, embedding.num_embeddings) for weights in checked]
    with evaluating(embedding):
        device = next(embedding.parameters()).device
        for ids in torch.arange(embedding.num_embeddings).split(_ROWS):
            for i, rows in enumerate(embedding.layer_outputs(ids.to(device))):
                chosen = checked if types[i] == torch.float64 else sampled
                for weights, moments in zip(chosen, found, strict=True):
                    moments[i].add(rows, None if weights is None else weights[ids])
    return tuple(
        tuple(
            LayerCorrelation(
                layer.name,
                layer.groups,
                c := m.correlation(),
                group_correlation(c.matrix, layer.groups),
            )
            for layer, m in zip(layers, moments, strict=True)
        )
        for moments in found
    )


def group_correlation(matrix: Tensor, groups: int) -> Tensor:
    """Mean absolute correlation between the features of any two groups of a layer.

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


def _sampled(weights: Tensor | None, size: int) -> Tensor | None:
    """Weights for the wide layers: those given, or of a random sample that stands for them.

    Words are drawn in proportion to their weights, so that the frequent ones are in it. The same in
    every call.
    """
    if size <= _SAMPLE:
        return weights
    generator = torch.Generator().manual_seed(0)
    if weights is None:
        ids = torch.randperm(size, generator=generator)[:_SAMPLE]
    else:
        ids = torch.multinomial(weights, _SAMPLE, replacement=True, generator=generator)
    return torch.bincount(ids, minlength=size).double()


def split_groups(between: Tensor) -> tuple[float, float]:
    """Mean absolute correlation within groups, and between different groups."""
    own = torch.eye(len(between), dtype=torch.bool)
    return between[own].nanmean().item(), between[~own].nanmean().item()
