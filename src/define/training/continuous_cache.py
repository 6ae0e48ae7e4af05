"""A cache of recent hidden states, which remembers what was said a while ago."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor
from tqdm import tqdm

from define.models import LanguageModel
from define.modes import evaluating
from define.softmax.chunked import IGNORED

__all__ = ["ContinuousCache", "cached_nll", "choose_cache"]

_SCORES = 1 << 22  # of queries with the cache, computed at a time: 16 MB


@dataclass(frozen=True)
class ContinuousCache:
    r"""Mixes a model's prediction with the words that followed similar hidden states.

    .. math::
        p(w) = (1 - \lambda)\, p_{\mathrm{model}}(w) + \lambda\, p_{\mathrm{cache}}(w), \qquad
        p_{\mathrm{cache}}(w) \propto \sum_{i = t - s}^{t - 1}
        \mathbf{1}[x_{i + 1} = w] \exp(\theta\, h_t \cdot h_i)

    h are the hidden states that the output layer reads. The first word of a text has no cache.

    Reference:
        | Improving Neural Language Models with a Continuous Cache (Grave et al. 2017), Sec. 3

    Args:
        size: Positions s that are remembered, at least 1.
        theta: Flatness of the cache's distribution, at least 0; 0 counts words alone.
        weight: Share lambda of the cache in the mixture, in [0, 1).

    Raises:
        ValueError: If an argument is out of its range.
    """

    size: int = 2000
    theta: float = 0.66
    weight: float = 0.13

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size={self.size} must be at least 1.")
        if self.theta < 0 or not 0 <= self.weight < 1:
            raise ValueError(
                f"theta={self.theta} must be at least 0 and weight={self.weight} in [0, 1)."
            )


@torch.no_grad()
def cached_nll(
    model: LanguageModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    size: int,
    thetas: Sequence[float],
    weights: Sequence[float],
    title: str | None = None,
) -> Float[Tensor, "thetas weights"]:
    """Mean negative log-likelihoods in nats per token with a cache, for a grid of its settings.

    Model and similarities are computed once for the whole grid. The state is carried from batch
    to batch; each column of the batches has a cache of its own.

    Args:
        model: The model; its mode is put back afterwards.
        batches: Consecutive (tokens, targets), both (batch, time).
        size: Positions that are remembered.
        thetas: Values of `ContinuousCache.theta`.
        weights: Values of `ContinuousCache.weight`.
        title: Name of a progress bar on standard error; none if omitted.

    Returns:
        (thetas, weights) float64.
    """
    device = next(model.parameters()).device
    shares = torch.tensor(weights, dtype=torch.float64, device=device)[:, None, None]
    total = torch.zeros(len(thetas), len(weights), dtype=torch.float64)
    hidden_bar = True if title is None else None  # None: unless in a terminal
    count, state = 0, None
    keys = values = None
    with evaluating(model):
        for tokens, targets in tqdm(batches, title, disable=hidden_bar, leave=False):
            tokens, targets = tokens.to(device), targets.to(device)
            hidden, state = model.hidden(tokens, state)
            nll = model.head(hidden, targets).double()
            keys = hidden if keys is None else torch.cat([keys[:, -size:], hidden], 1)
            values = targets if values is None else torch.cat([values[:, -size:], targets], 1)
            real = targets != IGNORED
            for i, found in enumerate(_log_prob(hidden, targets, keys, values, size, thetas)):
                mixed = torch.logaddexp(torch.log1p(-shares) - nll, shares.log() + found)
                mixed = torch.where(found.isnan(), -nll, mixed)  # nothing is remembered yet
                total[i] -= mixed.where(real, 0.0).sum((1, 2)).cpu()
            count += int(real.sum())
    return total / count


def _log_prob(
    hidden: Float[Tensor, "batch time features"],
    targets: Int[Tensor, "batch time"],
    keys: Float[Tensor, "batch seen features"],
    values: Int[Tensor, "batch seen"],
    size: int,
    thetas: Sequence[float],
) -> Float[Tensor, "thetas batch time"]:
    """Log-probability of each target under the cache alone; NaN where that is empty.

    The last positions of `keys` and `values` are those of `hidden` and `targets` themselves.
    """
    time, first = hidden.shape[1], keys.shape[1] - hidden.shape[1]
    rows = max(1, _SCORES // (len(hidden) * (size + time)))
    found = []
    for start in range(0, time, rows):
        stop = min(start + rows, time)
        begin = max(0, first + start - size)  # no query of these rows sees what was before
        seen = slice(begin, first + stop)
        query = torch.arange(first + start, first + stop, device=hidden.device)[:, None]
        place = torch.arange(begin, first + stop, device=hidden.device)
        remembered = (place < query) & (place >= query - size)  # (rows, seen)
        dots = hidden[:, start:stop] @ keys[:, seen].mT  # (batch, rows, seen)
        same = targets[:, start:stop, None] == values[:, None, seen]
        chunk = []
        for theta in thetas:
            scores = (theta * dots).masked_fill(~remembered, -math.inf)
            hits = scores.masked_fill(~same, -math.inf)
            chunk.append(hits.logsumexp(-1) - scores.logsumexp(-1))  # -inf less -inf: NaN
        found.append(torch.stack(chunk))
    return torch.cat(found, -1).double()


def choose_cache(
    model: LanguageModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    cache: ContinuousCache = ContinuousCache(),
    thetas: Sequence[float] = (0.1, 0.2, 0.3, 0.5, 0.66, 1.0, 1.5),
    weights: Sequence[float] = (0.02, 0.05, 0.1, 0.13, 0.2, 0.3),
    title: str | None = None,
) -> ContinuousCache:
    """The cache whose theta and weight are best on a text, which should be validation text.

    Args:
        model: The model.
        batches: Consecutive (tokens, targets).
        cache: Has the size.
        thetas: Those to try.
        weights: Those to try.
        title: Name of a progress bar.
    """
    grid = cached_nll(model, batches, cache.size, thetas, weights, title)
    i, j = divmod(int(grid.argmin()), len(weights))
    return replace(cache, theta=thetas[i], weight=weights[j])
