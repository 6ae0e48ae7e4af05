"""Where to cut a vocabulary for an adaptive softmax that takes the least time."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from define.embedding.tables import check_cutoffs

__all__ = ["AdaptiveSoftmaxCost", "choose_cutoffs"]

_CANDIDATES = 256  # places tried at a time: all of them in a small vocabulary


@dataclass(frozen=True)
class AdaptiveSoftmaxCost:
    r"""Time of a training step of an adaptive softmax, in multiply-adds.

    A product of r rows with a table of s words and width w, its softmax and its gradients take

    .. math:: r s (3 w + \mathrm{per\_logit}) + \mathrm{per\_weight} \, s w + \mathrm{per\_call}

    where the head's table has a row more for each further band, and a further band gets, of all
    rows, its share of the words counted. Where such a band is empty it takes nothing.

    Reference:
        Efficient softmax approximation for GPUs (Grave et al. 2017), Sec. 4.1 (the same without
        gradients, their time of a small product being our `per_call`)

    Args:
        width: Width of the first band's table.
        div_value: Factor by which the width falls from band to band; 1 for one table.
        in_features: Width that a projection of each band's own reads; None if there is none.
        tokens: Rows of a batch.
        per_logit: What exponentials and sums cost for each logit.
        per_weight: What reading the table and writing its gradient cost for each weight.
        per_call: What each band costs besides.

    The defaults of the last three were fitted to times on one thread of a CPU, with a mean error
    of a tenth; a GPU has a larger `per_call`. The optimizer is left out. Where all bands have one
    width, these constants decide how many bands pay, and not where to cut.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> cost = AdaptiveSoftmaxCost(128, tokens=700)
        >>> zipf = 1 / torch.arange(1.0, 33_279)
        >>> full = cost(zipf, [33_277])
        >>> cost(zipf, [2_000, 10_000]) < 0.3 * full
        True
    """

    width: int
    div_value: float = 1.0
    in_features: int | None = None
    tokens: int = 1000
    per_logit: float = 115.0
    per_weight: float = 70.0
    per_call: float = 2.8e7

    def __post_init__(self) -> None:
        if self.width < 1 or self.tokens < 1 or (self.in_features or 1) < 1:
            raise ValueError(
                f"width={self.width}, tokens={self.tokens} and in_features={self.in_features} "
                "must be at least 1."
            )
        if self.div_value < 1:
            raise ValueError(f"div_value={self.div_value} must be at least 1.")
        if min(self.per_logit, self.per_weight, self.per_call) < 0:
            raise ValueError(
                f"per_logit={self.per_logit}, per_weight={self.per_weight} and "
                f"per_call={self.per_call} must not be negative."
            )

    def __call__(self, counts: Tensor, cutoffs: Sequence[int]) -> float:
        """The cost of given cutoffs.

        Args:
            counts: (V,) how often each word occurs, by id.
            cutoffs: First id of each band but the first.

        Raises:
            ValueError: If counts or cutoffs are out of range.
        """
        below = _shares(counts)
        cutoffs = check_cutoffs(cutoffs, len(counts))
        stops = torch.tensor((*cutoffs, len(counts)))
        total = self.head(stops[0], len(cutoffs))
        for band in range(1, len(stops)):
            total = total + self.tail(band, stops[band - 1], stops[band], below)
        return float(total)

    def head(self, size: Tensor, clusters: int) -> Tensor:
        """Cost of first bands of the given sizes, any shape."""
        return self._product(self.tokens, size + clusters, self.width) + self.per_call

    def tail(self, band: int, start: Tensor, stop: Tensor, below: Tensor) -> Tensor:
        """Cost of further bands by their first ids and the ids beyond; `below` see `_shares`."""
        width = int(self.width / self.div_value**band)
        share = below[stop] - below[start]
        rows = self.tokens * share
        cost = self._product(rows, stop - start, width) + self.per_call
        if self.in_features is not None and width != self.in_features:
            cost = cost + 3 * rows * self.in_features * width
        used = 1 - (1 - share).clamp(min=0) ** self.tokens  # the chance that it has a row at all
        empty = self._product(0, stop - start, width) + self.per_call
        return cost - (1 - used) * empty

    def _product(self, rows: Tensor | int, size: Tensor, width: int) -> Tensor:
        size = size.double()
        return rows * size * (3 * width + self.per_logit) + self.per_weight * size * width


def choose_cutoffs(
    counts: Int[Tensor, " words"] | Float[Tensor, " words"],
    cost: AdaptiveSoftmaxCost,
    bands: int = 4,
) -> tuple[int, ...]:
    """Cutoffs of the least cost.

    Exact for vocabularies of up to 256 words. For larger ones the best of a geometric grid is
    refined, each cutoff between its neighbours in the grid, until the grid is every word.

    Args:
        counts: (V,) how often each word occurs, by id. Ids by falling frequency make it cheap.
        cost: What to make least.
        bands: The most bands, the first included; fewer where that is cheaper, at least two. Of
            bands of one width 8 take about half the time of 4.

    Raises:
        ValueError: If `bands` is below 2, if there are more bands than words, if a band would have
            no width, or if counts are negative or all zero.

    Example:
        >>> zipf = 1 / torch.arange(1.0, 33_279)
        >>> len(choose_cutoffs(zipf, AdaptiveSoftmaxCost(128), bands=3))
        2
    """
    below = _shares(counts)
    words = len(counts)
    if not 2 <= bands <= words:
        raise ValueError(f"{bands=} must be within 2 and the {words} words.")
    if cost.width / cost.div_value ** (bands - 1) < 1:
        raise ValueError(f"{bands=} leaves the last of {cost} no width.")
    found = [_best(cost, below, words, clusters) for clusters in range(1, bands)]
    return min(found, key=lambda cutoffs: cost(counts, cutoffs))


def _best(cost: AdaptiveSoftmaxCost, below: Tensor, words: int, clusters: int) -> tuple[int, ...]:
    """The cheapest cutoffs of exactly so many."""
    grids = [_between(1, words - 1, _CANDIDATES)] * clusters
    while True:
        chosen = _cheapest_path(cost, below, words, grids)
        finer = []
        for grid, cutoff in zip(grids, chosen, strict=True):
            place = int(torch.searchsorted(grid, cutoff))
            low = min(int(grid[max(place - 1, 0)]), cutoff - _CANDIDATES // 2 + 1)
            high = max(int(grid[min(place + 1, len(grid) - 1)]), cutoff + _CANDIDATES // 2 - 1)
            finer.append(_between(max(low, 1), min(high, words - 1), _CANDIDATES))
        if all(int(grid[-1] - grid[0]) == len(grid) - 1 for grid in grids):
            return tuple(chosen)
        grids = finer


def _cheapest_path(
    cost: AdaptiveSoftmaxCost, below: Tensor, words: int, grids: Sequence[Tensor]
) -> list[int]:
    """Dynamic programming from the last band to the first: one candidate of each grid."""
    clusters = len(grids)
    rest = cost.tail(clusters, grids[-1], torch.tensor(words), below)  # from each candidate on
    choices: list[Tensor] = []
    for band in range(clusters - 1, 0, -1):
        start, stop = grids[band - 1][:, None], grids[band][None, :]
        # A band that ends before it starts is not to be chosen; the clamp keeps its cost defined.
        through = cost.tail(band, start, torch.maximum(stop, start), below) + rest
        rest, choice = through.masked_fill(stop <= start, torch.inf).min(dim=1)
        choices.append(choice)
    place = int((cost.head(grids[0], clusters) + rest).argmin())
    path = [int(grids[0][place])]
    for grid, choice in zip(grids[1:], reversed(choices), strict=True):
        place = int(choice[place])
        path.append(int(grid[place]))
    return path


def _between(low: int, high: int, most: int) -> Tensor:
    """Up to `most` distinct integers from low to high: all of them, or geometrically spaced."""
    if high - low < most:
        return torch.arange(low, high + 1)
    exponents = torch.linspace(math.log(low), math.log(high), most, dtype=torch.float64)
    return exponents.exp().round().long().unique()


def _shares(counts: Tensor) -> Tensor:
    """Share of the words counted that have an id below 0, 1, ..., V."""
    if counts.dim() != 1 or len(counts) < 2:
        raise ValueError(f"counts {tuple(counts.shape)} must be of one dimension, 2 or more.")
    counts = counts.detach().cpu().double()
    if not (counts.isfinite().all() and (counts >= 0).all() and counts.sum() > 0):
        raise ValueError("counts must be finite, not negative, and not all zero.")
    return torch.cat((counts.new_zeros(1), counts.cumsum(0))) / counts.sum()
