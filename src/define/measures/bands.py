"""Loss and error by the frequency of words: does a gain sit with rare ones?"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import exp, inf, nan

import torch
from torch import Tensor

from define.measures.rows import Table, row_chunks
from define.models import LanguageModel
from define.modes import evaluating
from define.softmax.chunked import IGNORED

__all__ = [
    "EDGES",
    "BandError",
    "FrequencyBand",
    "band_errors",
    "frequency_bands",
    "perplexity",
    "perplexity_of",
    "token_nll",
]

EDGES = (10, 100, 300, 1_000, 3_000, 10_000, 30_000, 100_000)
"""Last rank of each band: fine enough for a vocabulary of 10,000 and for one of 267,735."""


@dataclass(frozen=True)
class FrequencyBand:
    """The targets of a text whose frequency in training has a rank from `first` to `last`.

    Attributes:
        first: Rank of the band's most frequent word; 1 is the most frequent of all.
        last: Rank of its rarest word.
        types: Words of the band that are targets in the text at all.
        tokens: Their occurrences.
        nll: Sum of their negative log-likelihoods in nats.
    """

    first: int
    last: int
    types: int
    tokens: int
    nll: float

    @property
    def perplexity(self) -> float:
        """Exp of the mean negative log-likelihood; NaN without tokens."""
        return perplexity([self])


def perplexity(bands: Sequence[FrequencyBand]) -> float:
    """Exp of the mean negative log-likelihood over some bands; NaN without tokens."""
    tokens = sum(band.tokens for band in bands)
    return perplexity_of(sum(band.nll for band in bands) / tokens) if tokens else nan


def perplexity_of(nll: float) -> float:
    """Exp of a mean negative log-likelihood; infinite beyond the largest float, if diverged."""
    return inf if nll > 709 else exp(nll)


def frequency_bands(
    targets: Tensor, nll: Tensor, counts: Tensor, edges: Sequence[int] = EDGES
) -> tuple[FrequencyBand, ...]:
    """Splits the loss of a text by the frequency of its targets; the bands add up to the whole.

    Args:
        targets: (tokens,) ids.
        nll: (tokens,) their negative log-likelihoods in nats.
        counts: (V,) how often each id occurs in training; ties rank by id.
        edges: Last rank of each band, rising; those beyond V are not used, and a last band
            reaches to V.

    Raises:
        ValueError: If shapes do not fit, an id is out of range, or edges do not rise from above 0.
    """
    if targets.shape != nll.shape or targets.dim() != 1 or counts.dim() != 1:
        shapes = f"{tuple(targets.shape)=}, {tuple(nll.shape)=}, {tuple(counts.shape)=}"
        raise ValueError(f"{shapes} must be (tokens,), (tokens,) and (V,).")
    size = len(counts)
    if len(targets) and not 0 <= targets.min() <= targets.max() < size:
        low, high = int(targets.min()), int(targets.max())
        raise ValueError(f"targets from {low} to {high} must be ids below {size}.")
    if any(a >= b for a, b in zip((0, *edges), edges, strict=False)):
        raise ValueError(f"{edges=} must rise from above 0.")

    tokens = torch.bincount(targets, minlength=size)
    sums = torch.bincount(targets, nll.double(), minlength=size)
    order = counts.argsort(descending=True, stable=True)
    tokens, sums = tokens[order], sums[order]
    bounds = [0, *(edge for edge in edges if edge < size), size]
    return tuple(
        FrequencyBand(
            first + 1,
            last,
            int((tokens[first:last] > 0).sum()),
            int(tokens[first:last].sum()),
            sums[first:last].sum().item(),
        )
        for first, last in zip(bounds[:-1], bounds[1:], strict=True)
    )


@torch.no_grad()
def token_nll(
    model: LanguageModel, batches: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Each target of a text and its negative log-likelihood in nats, both (tokens,) on the CPU.

    Args:
        model: The model.
        batches: Consecutive (tokens, targets), both (batch, time); the state is carried over.
    """
    device = next(model.parameters()).device
    found, state = [], None
    with evaluating(model):
        for tokens, targets in batches:
            nll, state = model(tokens.to(device), targets.to(device), state)
            counted = targets != IGNORED
            found.append((targets[counted].long(), nll.cpu()[counted]))
    if not found:
        raise ValueError("The text has no batches.")
    ids, losses = zip(*found, strict=True)
    return torch.cat(ids), torch.cat(losses)


@dataclass(frozen=True)
class BandError:
    """Squared error of the rows from rank `first` to `last`, relative to their own squares.

    It is NaN where all of them are zero.
    """

    first: int
    last: int
    error: float


@torch.no_grad()
def band_errors(
    table: Table, other: Table, weights: Tensor, edges: Sequence[int] = EDGES
) -> tuple[BandError, ...]:
    """The relative error of what stands for a table, by the frequency of the words.

    Args:
        table: The table (V, m).
        other: What stands for it.
        weights: (V,) frequencies, or what follows their order.
        edges: Last rank of each band, rising.
    """
    off, size = [], []
    for (_, rows), (_, others) in zip(row_chunks(table), row_chunks(other), strict=True):
        rows = rows.double()
        off.append((others.double() - rows).square().sum(1).cpu())
        size.append(rows.square().sum(1).cpu())
    order = weights.argsort(descending=True, stable=True).cpu()
    errors, sizes = torch.cat(off)[order], torch.cat(size)[order]
    stops = [*(edge for edge in edges if edge < len(order)), len(order)]
    found = []
    for first, last in zip([0, *stops[:-1]], stops, strict=True):
        error, size = float(errors[first:last].sum()), float(sizes[first:last].sum())
        found.append(BandError(first + 1, last, error / size if size else nan))
    return tuple(found)
