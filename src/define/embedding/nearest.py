"""Inputs for which a function comes nearest to given outputs."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import jacrev, vmap

__all__ = ["nearest_inputs"]

_CHUNK = 16  # rows whose Jacobians are held at a time
_DAMPING = 1e-3  # at the start, of the mean curvature
_SMALLEST = 1e-12  # damping: keeps a singular curvature solvable
_TOLERANCE = 1e-10  # relative improvement of a step that ends the search


def nearest_inputs(
    function: Callable[[Tensor], Tensor],
    start: Float[Tensor, "rows width"],
    wanted: Float[Tensor, "rows features"],
    steps: int = 100,
) -> Float[Tensor, "rows width"]:
    r"""Minimizes ‖function(z) − wanted‖ for each row by itself (Levenberg–Marquardt).

    Where the function is linear, the second step ends at the least-squares solution.

    Args:
        function: Of rows, each result depending on its own row alone; differentiable.
        start: Where the search begins.
        wanted: What the function should give.
        steps: Most steps.
    """
    pairs = zip(start.split(_CHUNK), wanted.split(_CHUNK), strict=True)
    return torch.cat([_search(function, z, y, steps) for z, y in pairs]) if len(start) else start


def _search(function: Callable[[Tensor], Tensor], z: Tensor, wanted: Tensor, steps: int) -> Tensor:
    jacobian = vmap(jacrev(lambda row: function(row[None])[0]))
    residual = function(z) - wanted
    error = residual.square().sum(1)
    damping = torch.full_like(error, _DAMPING)
    eye = torch.eye(z.shape[1], dtype=z.dtype, device=z.device)
    for _ in range(steps):
        slopes = jacobian(z)  # (rows, features, width)
        curvature = slopes.mT @ slopes
        scale = curvature.diagonal(dim1=1, dim2=2).mean(1).clamp_min(torch.finfo(z.dtype).tiny)
        damped = curvature + (damping * scale)[:, None, None] * eye
        step = torch.linalg.solve(damped, (slopes.mT @ residual[..., None])).squeeze(-1)
        tried = function(z - step) - wanted
        tried_error = tried.square().sum(1)
        better = tried_error < error
        gained = torch.where(better, error - tried_error, 0.0)
        z = torch.where(better[:, None], z - step, z)
        residual = torch.where(better[:, None], tried, residual)
        done = better & (gained <= _TOLERANCE * error) | (damping > 1 / _DAMPING)
        error = torch.where(better, tried_error, error)
        damping = torch.where(better, damping / 10, damping * 10).clamp_min(_SMALLEST)
        if done.all():
            break
    return z
