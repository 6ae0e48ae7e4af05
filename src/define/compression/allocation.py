"""Bits for rows and columns within a number of bytes: reverse water-filling with a few classes."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

__all__ = ["Allocation", "allocate"]

# Mean squared error of the best uniform quantizers for a Gaussian of deviation 1 (Max 1960).
_DISTORTION = (1.0, 0.3634, 0.1188, 0.03744, 0.01154, 0.00349, 0.00104, 0.000304, 0.0000874)
_STEPS = 24  # of the search for the price of a byte


@dataclass(frozen=True)
class Allocation:
    """Bits of each group of columns for each class of rows, and the class of each row."""

    bits: tuple[tuple[int, ...], ...]
    classes: Int[Tensor, " rows"]


@torch.no_grad()
def allocate(
    coordinates: Float[Tensor, "rows columns"],
    weights: Float[Tensor, " rows"],
    budget: int,
    *,
    num_classes: int = 12,
    group_size: int = 32,
    row_bytes: int = 3,
) -> Allocation | None:
    r"""Classes of rows, and bits for each, that lose least within a number of bytes.

    .. math:: \min \sum_i w_i \sum_g E_{ig} \, D(b_{c(i) g}) + \lambda \sum_i \mathrm{bytes}(c(i))

    E are squares of a row in a group of columns, D is what b bits leave of them. Bits of a class
    and classes of rows are chosen in turn, as k-means does; λ is searched for.

    Reference:
        | Cover & Thomas, Elements of Information Theory, Sec. 10.3.3 (reverse water-filling)
        | Shoham & Gersho 1988 (bits under a Lagrangian)

    Args:
        coordinates: Rows in the axes that they are rounded in.
        weights: What an error in each row costs.
        budget: Bytes for codes, scales and classes of all rows.
        num_classes: Most classes; those that stay empty are dropped.
        group_size: Columns that have one number of bits.
        row_bytes: Bytes of a row besides its codes: its class, and its scale.

    Returns:
        None if not even a class for each row fits.
    """
    spread = budget - row_bytes * len(coordinates)
    if spread <= 0:
        return None
    energies = torch.stack([g.square().sum(1) for g in coordinates.split(group_size, 1)], 1)
    energies = energies.double() / energies.double().sum(1).mean().clamp_min(1e-300)
    w = weights.double() / weights.double().mean()
    columns = [g.shape[1] for g in coordinates[:1].split(group_size, 1)]
    distortion = energies.new_tensor(_DISTORTION)
    width = energies.new_tensor(columns)[:, None] * torch.arange(9, device=w.device) / 8
    # Every class starts with rows of like weight, fewer where weights are great.
    edges = (len(w) * torch.linspace(0, 1, num_classes + 1) ** 2.5).long().to(w.device)
    start = torch.empty(len(w), dtype=torch.int64, device=w.device)
    start[w.argsort(descending=True)] = torch.bucketize(
        torch.arange(len(w), device=w.device), edges[1:-1], right=True
    )

    def choose_bits(classes: Tensor, price: float) -> Tensor:
        total = w.new_zeros(num_classes, len(columns))
        total.index_add_(0, classes, energies * w[:, None])
        counts = torch.bincount(classes, minlength=num_classes)
        cost = total[..., None] * distortion + price * counts[:, None, None] * width
        return cost.argmin(-1)  # (classes, groups)

    def choose_classes(bits: Tensor, price: float) -> tuple[Tensor, float]:
        bytes_ = width.gather(1, bits.mT).sum(0).ceil()
        lost = energies @ distortion[bits].mT
        classes = (w[:, None] * lost + price * bytes_).argmin(1)
        return classes, float(bytes_[classes].sum())

    # The price at which bytes are within the budget: bits follow the classes, then classes alone.
    low, high = 1e-12, 1e3
    best = choose_bits(start, high)
    for _ in range(_STEPS):
        price = (low * high) ** 0.5
        bits = choose_bits(start, price)
        for _ in range(3):
            bits = choose_bits(choose_classes(bits, price)[0], price)
        used = choose_classes(bits, price)[1]
        low, high = (price, high) if used > spread else (low, price)
        if used <= spread:
            best = bits
    low, high, classes = 1e-15, 1e6, None
    for _ in range(2 * _STEPS):
        price = (low * high) ** 0.5
        found, used = choose_classes(best, price)
        low, high = (price, high) if used > spread else (low, price)
        if used <= spread:
            classes = found
    if classes is None:
        return None
    kept, classes = classes.unique(return_inverse=True)
    return Allocation(tuple(tuple(row) for row in best[kept].tolist()), classes)
