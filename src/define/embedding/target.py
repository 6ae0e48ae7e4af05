"""The table that an embedding is fitted to, and the linear problems that it poses."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.embedding.tables import table_size

__all__ = ["Target", "balance", "check_target", "factorize", "least_squares", "principal_axes"]

_SMALLEST = 1e-12  # root mean square of a table's numbers
_DAMPING = 1e-7  # of the mean curvature: keeps features that (nearly) repeat each other solvable


@dataclass(frozen=True)
class Target:
    r"""A table, and what an error in it costs: :math:`\sum_i w_i \| (e_i - t_i) S \|^2`.

    Args:
        table: t (V, m).
        weights: w, one for each row (V).
        chunk: Rows to take at a time.
        root: S (m, m), symmetric and invertible; the identity if omitted.
    """

    table: Float[Tensor, "rows features"]
    weights: Float[Tensor, " rows"]
    chunk: int = 8192
    root: Float[Tensor, "features features"] | None = None

    def seen(self, rows: Float[Tensor, "rows features"]) -> Float[Tensor, "rows features"]:
        """Rows as errors are measured: times S."""
        return rows if self.root is None else rows @ self.root

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
        return sum(
            float(w.double() @ self.seen(rows).double().square().sum(1))
            for rows, w in self.chunks()
        )

    @torch.no_grad()
    def error(self, embedding: nn.Module) -> float:
        """Weighted squared error of an embedding, relative to the table's own sum of squares."""
        error = 0.0
        for ids, rows, w in self.id_chunks():
            squares = self.seen(embedding(ids) - rows).double().square().sum(1)
            # A row that does not count may be anything, even infinite.
            error += float(w.double() @ torch.where(w > 0, squares, 0.0))
        return error / self.energy()


def check_target(
    table: Tensor,
    embedding: nn.Module,
    weights: Tensor | None,
    chunk_size: int = 8192,
    metric: Tensor | None = None,
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
            f"Weights {tuple(weights.shape)} must be one for each row of the table "
            f"{tuple(table.shape)}."
        )
    weights = weights.to(like.device, torch.float64, copy=True)
    if not weights.isfinite().all() or weights.min() < 0:
        worst = weights[~weights.isfinite()] if not weights.isfinite().all() else weights.min()
        raise ValueError(f"Weights must be finite and at least 0, not {float(worst.flatten()[0])}.")
    padding_idx = getattr(embedding, "padding_idx", None)
    if padding_idx is not None:
        weights[padding_idx] = 0.0  # that row is zero, whatever the table has there
    if not weights.sum() > 0:
        raise ValueError("Weights must not all be 0: no row counts.")
    # A mean of 1 keeps sums of products in float32 within range, whatever unit counts have.
    weights = weights * (len(weights) / weights.sum())
    root = None if metric is None else _root(metric, size[1]).to(like)
    target = Target(table.to(like), weights.to(like.dtype), chunk_size, root)
    energy = target.energy()
    if not energy > 0:
        raise ValueError("The table must not be zero in every row that has a weight.")
    deviation = (energy / float(target.weights.sum()) / table.shape[1]) ** 0.5
    if not _SMALLEST < deviation < 1 / _SMALLEST:
        raise ValueError(
            f"The table's numbers have a root mean square of {deviation:.3g}, which must be within "
            f"{_SMALLEST:g} and {1 / _SMALLEST:g}, for squares in float32: scale it."
        )
    return target


def _root(metric: Tensor, features: int) -> Tensor:
    """The root of a metric that costs 1 in the mean over all directions."""
    if metric.shape != (features, features) or not metric.isfinite().all():
        raise ValueError(f"{tuple(metric.shape)=} must be {(features, features)}, all finite.")
    values, vectors = torch.linalg.eigh(metric.double())
    if not values[0] > 0:
        raise ValueError(f"A metric must be positive definite; one eigenvalue is {values[0]:.3g}.")
    return vectors * (values / values.mean()).sqrt() @ vectors.mT


@torch.no_grad()
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
def principal_axes(
    target: Target, columns: int
) -> tuple[Float[Tensor, "rows columns"], Float[Tensor, "columns features"], Tensor]:
    """Coordinates Z, axes A and mean µ with which Z A + µ is nearest to a table.

    An error in Z costs the same in every direction. Weights are the roots of the target's.
    """
    roots = Target(target.seen(target.table), target.weights.sqrt(), target.chunk)
    left, right, mean = factorize(roots, columns, centre=True)
    axes = right.mT
    if target.root is not None:
        inverse = torch.linalg.inv(target.root)
        axes, mean = axes @ inverse, mean @ inverse
    return left, axes, mean


def balance(left: Tensor, weights: Tensor, std: float) -> Tensor:
    """What divides the rows Z of a factorization, and multiplies its R, to give Z deviation `std`.

    One scale for all columns, and an orthonormal matrix beside it: an error of Z then costs the
    same in every direction, which is what gradient steps on rows want.
    """
    scale = (weights @ left.square()).sum().div(weights.sum() * left.shape[1]).sqrt()
    return (scale / std).clamp_min(torch.finfo(left.dtype).tiny)


@torch.no_grad()
def least_squares(
    target: Target, reads: Callable[[Tensor], Tensor]
) -> tuple[Float[Tensor, "features width"], Float[Tensor, " features"]] | None:
    r"""The weighted least-squares map, with bias, from what is read of each id to a table.

    .. math:: \min_{R, b} \sum_i w_i \| R x_i + b - t_i \|^2

    Normal equations are summed over chunks in float64, so memory does not grow with the table.

    Args:
        target: The table.
        reads: Gives x (rows, width) for ascending ids.

    Returns:
        R and b; None if the equations have no solution in floating point.
    """
    gram = cross = torch.zeros((), dtype=torch.float64, device=target.table.device)
    for ids, rows, w in target.id_chunks():
        x = nn.functional.pad(reads(ids), (0, 1), value=1.0)
        weighted = (x * w[:, None]).mT
        gram = gram + (weighted @ x).double()
        cross = cross + (weighted @ rows).double()
    gram.diagonal().add_(gram.diagonal().mean() * _DAMPING)
    solution, info = torch.linalg.solve_ex(gram, cross)
    if info.item() != 0:
        return None
    solution = solution.to(target.table)
    return solution[:-1].mT, solution[-1]
