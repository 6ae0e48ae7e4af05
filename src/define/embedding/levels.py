"""Levels that numbers are rounded to, and the scale of each row with which that costs least."""

from collections.abc import Sequence
from functools import lru_cache
from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor

from define.embedding.packing import Columns

__all__ = ["encode", "grid_of", "levels_of", "nearest", "part_of", "spread_of"]

# Steps of the uniform quantizers of 1 to 8 bits that are best for a Gaussian of deviation 1 (Max
# 1960, Table II, continued), over those with which equally frequent codes have deviation 1.
_SPREAD = (0.798, 1.113, 1.343, 1.545, 1.737, 1.923, 2.102, 2.276)
_TRIES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.1, 2.6, 3.2)  # of a row's scale


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # gradients may read them later
def levels_of(
    columns: Columns, device: torch.device, dtype: torch.dtype
) -> tuple[Int[Tensor, " used"], Float[Tensor, " used"], Float[Tensor, " used"]]:
    """Of the columns that have bits: which, the highest code, and the step.

    Levels are symmetric about zero; with this step, equally frequent codes have deviation 1.
    """
    bits = columns.each()
    used = [column for column, number in enumerate(bits) if number]
    levels = torch.tensor([2.0 ** bits[column] - 1 for column in used], device=device)
    step = (levels * (levels + 2) / 12).rsqrt()
    return torch.tensor(used, dtype=torch.int64, device=device), levels.to(dtype), step.to(dtype)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # gradients may read them later
def grid_of(
    classes: tuple[Columns, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Float[Tensor, "classes columns"], Float[Tensor, "classes columns"]]:
    """Step and lowest level of each column for some classes of rows, zero without bits."""
    grids = torch.zeros(2, len(classes), classes[0].size, device=device, dtype=dtype)
    for k, columns in enumerate(classes):
        used, levels, step = levels_of(columns, device, dtype)
        grids[:, k, used] = torch.stack([step, -levels / 2 * step])
    return grids[0], grids[1]


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # gradients may read them later
def part_of(columns: Columns, device: torch.device) -> slice | Tensor:
    """The columns that have bits: a slice, which needs no copy, where they are the first ones."""
    bits = columns.each()
    count = len(bits) - bits.count(0)
    return slice(count) if all(bits[:count]) else levels_of(columns, device, torch.float32)[0]


def spread_of(bits: Sequence[int], like: Tensor) -> Float[Tensor, " bits"]:
    """How much wider than the numbers equally frequent codes must be to lose least, by bits."""
    return like.new_tensor([_SPREAD[number - 1] if number else 1.0 for number in bits])


def nearest(
    values: Float[Tensor, "rows used"], levels: Float[Tensor, " used"], steps: Tensor
) -> Float[Tensor, "rows used"]:
    """Codes of the nearest levels."""
    return (values / steps + levels / 2).round().clamp_min(0.0).minimum(levels)


@torch.no_grad()
def encode(
    values: Float[Tensor, "rows used"],
    levels: Float[Tensor, " used"],
    steps: Float[Tensor, " used"],
    spans: Sequence[int],
) -> tuple[Int[Tensor, "rows used"], Float[Tensor, "rows spans"]]:
    """Codes of the nearest levels, at the best of a few scales of the steps for each row.

    Args:
        values: The numbers to round.
        levels: Highest code of each column.
        steps: Step of each column at scale 1.
        spans: Columns that share a scale, in turn; all of them in sum.

    Returns:
        Codes, and scales that float16 holds.
    """
    count = torch.tensor(spans, device=values.device)

    def sums(x: Tensor) -> Tensor:
        return torch.stack([part.sum(1) for part in x.split(list(spans), 1)], 1)

    def rounded(scales: Tensor) -> tuple[Tensor, Tensor]:
        step = steps * scales.repeat_interleave(count, 1)
        codes = nearest(values, levels, step)
        return codes, ((codes - levels / 2) * step - values).square_()

    bits = (levels + 1).log2().round().long().tolist()
    expected = (steps / spread_of(bits, steps)).square() * (levels * (levels + 2) / 12)
    base = (sums(values.square()) / sums(expected[None])).sqrt()
    reach = (values.abs() / (steps * levels / 2)).split(list(spans), 1)
    whole = torch.stack([part.amax(1) for part in reach], 1)  # cuts nothing
    best = errors = None
    for tried in (*(base * factor for factor in _TRIES), whole):
        # Halves of full precision: neither zero nor infinite.
        scales = tried.clamp(2e-4, 6e4).half().to(values)
        error = sums(rounded(scales)[1])
        if best is None or errors is None:
            best, errors = scales, error
        else:
            best = torch.where(error < errors, scales, best)
            errors = torch.minimum(error, errors)
    best = cast(Tensor, best)
    return rounded(best)[0].int(), best
