"""The best linear factorization of a table, set through the parameters of an embedding."""

from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.compression.target import Target
from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.groups import GroupLinear

__all__ = ["factorize", "is_optimal", "solve_reduce", "start"]

_DAMPING = 1e-7  # of the mean curvature: keeps features that (nearly) repeat each other solvable


def factorize(
    target: Target, rank: int, centre: bool
) -> tuple[Float[Tensor, "rows rank"], Float[Tensor, "features rank"], Float[Tensor, " features"]]:
    r"""The weighted truncated SVD of a table.

    .. math::
        \min_{Z, R, \mu} \sum_i w_i \| R z_i + \mu - t_i \|^2, \quad R^\top R = 1

    R holds the first eigenvectors of the weighted scatter matrix, which takes one pass over the
    table; z_i are projections, so a row without weight is met as well as the space allows.

    Returns:
        Z, R and µ (zero unless `centre`). Columns beyond the rank of the table are zero.
    """
    table, weights = target.table, target.weights
    mean = torch.zeros(table.shape[1], dtype=torch.float64, device=table.device)
    if centre:
        for rows, w in target.chunks():
            mean += (w @ rows).double()
        mean /= weights.sum()
    scatter = mean.new_zeros(len(mean), len(mean))
    for rows, w in target.chunks():
        rows = rows.double() - mean
        scatter += (rows * w.double()[:, None]).mT @ rows
    vectors = torch.linalg.eigh(scatter)[1].flip(1)[:, :rank]
    # The sign of an eigenvector is free; fixed here, so that machines agree.
    signs = vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    right = nn.functional.pad(vectors * signs, (0, rank - vectors.shape[1]))
    right, mean = right.to(table), mean.to(table)
    return (table - mean) @ right, right, mean


@torch.no_grad()
def start(embedding: nn.Module, target: Target) -> None:
    """Sets an embedding to the best linear factorization that it can stand for.

    Of a DeFINE, Expand is drawn anew over the rows of the Map, and its share in Reduce is zero:
    the unit then equals its path from the Map. Without that path Reduce is the least-squares map
    from the end of Expand; without Reduce only the Map is set.
    """
    if isinstance(embedding, nn.Embedding):
        embedding.weight.copy_(target.table)
        if embedding.padding_idx is not None:
            embedding.weight[embedding.padding_idx].zero_()
    elif isinstance(embedding, AdaptiveEmbedding):
        _start_bands(embedding, target)
    elif isinstance(embedding, ProjectedEmbedding):
        layer = embedding.projection
        left, right, mean = factorize(target, embedding.map_dim, layer.bias is not None)
        _set_map(embedding, target, left, right, layer, mean)
    elif isinstance(embedding, DeFINE):
        _start_define(embedding, target)
    else:
        raise TypeError(
            f"{type(embedding).__name__} must be a DeFINE, a ProjectedEmbedding, an "
            "AdaptiveEmbedding or a torch.nn.Embedding."
        )


def is_optimal(embedding: nn.Module) -> bool:
    """Whether `start` leaves nothing to improve."""
    if isinstance(embedding, ProjectedEmbedding):
        return isinstance(embedding.map, nn.Embedding)
    return isinstance(embedding, AdaptiveEmbedding | nn.Embedding)


def _set_map(
    embedding: ProjectedEmbedding | DeFINE,
    target: Target,
    left: Tensor,
    right: Tensor,
    layer: GroupLinear,
    mean: Tensor,
) -> None:
    # One scale for all columns, and an orthonormal R beside it: an error of the Map then costs
    # the same in every direction, which is what gradient steps on rows want.
    weights = target.weights
    scale = (weights @ left.square()).sum().div(weights.sum() * left.shape[1]).sqrt()
    scale = (scale / embedding.std).clamp_min(torch.finfo(left.dtype).tiny)
    start(embedding.map, Target(left / scale, weights, target.chunk))
    layer.weight.zero_()
    layer.weight[0, :, -left.shape[1] :] = right * scale
    if layer.bias is not None:
        layer.bias.copy_(mean)


def _start_define(embedding: DeFINE, target: Target) -> None:
    reduce = embedding.reduce
    left, right, mean = factorize(target, embedding.map_dim, reduce is not None)
    if reduce is not None and embedding.reduce_map:
        _set_map(embedding, target, left, right, reduce, mean)
    else:
        path = GroupLinear(embedding.map_dim, embedding.embedding_dim).to(left)
        _set_map(embedding, target, left, right, path, mean)
    # Features that vary over the rows that there are, rather than over random ones.
    probability = target.weights.double() / target.weights.sum()
    ids = torch.multinomial(probability, min(4096, int((probability > 0).sum())))
    embedding.expand.standardize_parameters(embedding.map(ids.sort().values))
    if reduce is not None and not embedding.reduce_map:
        solve_reduce(embedding, target)


def _start_bands(embedding: AdaptiveEmbedding, target: Target) -> None:
    for band, (first, stop) in enumerate(embedding.bands):
        part = Target(target.table[first:stop], target.weights[first:stop], target.chunk)
        projection = embedding.projection(band)
        if projection is None:
            embedding.tables[band].copy_(part.table)
            continue
        left, right, _ = factorize(part, embedding.widths[band], centre=False)
        embedding.tables[band].copy_(left)
        projection.copy_(right)


@torch.no_grad()
def solve_reduce(embedding: DeFINE, target: Target) -> None:
    r"""Sets Reduce to the weighted least-squares map from what it reads to the table.

    .. math:: \min_{R, b} \sum_i w_i \| R [\hat e_i, e_i] + b - t_i \|^2

    Normal equations are summed over chunks in float64, so memory does not grow with the table.
    """
    reduce = cast(GroupLinear, embedding.reduce)
    width = reduce.in_features + 1
    gram = torch.zeros(width, width, dtype=torch.float64, device=target.table.device)
    cross = gram.new_zeros(width, target.table.shape[1])
    for ids, rows, w in target.id_chunks():
        e_i = embedding.map(ids)
        e_o = embedding.expand(e_i)
        reads = torch.cat([e_o, e_i], -1) if embedding.reduce_map else e_o
        reads = nn.functional.pad(reads, (0, 1), value=1.0)
        weighted = (reads * w[:, None]).mT
        gram += (weighted @ reads).double()
        cross += (weighted @ rows).double()
    gram.diagonal().add_(gram.diagonal().mean() * _DAMPING)
    solution, info = torch.linalg.solve_ex(gram, cross)
    if info.item() == 0:
        solution = solution.to(reduce.weight)
        reduce.weight[0] = solution[:-1].mT
        cast(Tensor, reduce.bias).copy_(solution[-1])
