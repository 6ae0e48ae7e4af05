"""Perplexity by the frequency of the target: does a gain sit with rare words?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite, log, nan
from typing import TYPE_CHECKING, Any

from define.measures.bands import FrequencyBand, frequency_bands, perplexity
from define.measures.subject import Readings
from define.report.part import Grid, Part, Picture, Request, Section, number
from define.report.style import INK, legend_below, new_figure, shown_name, value_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["FrequencyPart"]

_Found = tuple[FrequencyBand, ...]


class FrequencyPart(Part[_Found]):
    """The loss of a text, split by the rank of its words in training."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        subject = readings.subject
        if subject.losses is None or subject.counts is None:
            return ()
        return frequency_bands(*subject.losses(), subject.counts)

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        return {"bands": [{**vars(band), "perplexity": band.perplexity} for band in found]}

    def section(self, found: Mapping[str, _Found], request: Request) -> Section | None:
        runs = {name: bands for name, bands in found.items() if bands}
        if not runs:
            return None
        # Runs that counted another training text have other words in a band.
        alike: dict[tuple[tuple[int, int], ...], dict[str, _Found]] = {}
        for name, bands in runs.items():
            alike.setdefault(tuple((x.types, x.tokens) for x in bands), {})[name] = bands
        what = f"Perplexity by frequency of the target ({request.split})"
        pictures = [Picture("frequency", _perplexities(runs, request, what), what)]
        same = next(iter(alike.values()))
        if len(same) > 1:
            base = shown_name(next(iter(same)))
            figure = _gains(same, request, f"Loss by frequency, against\n{base}")
            pictures.append(Picture("frequency-gain", figure, f"Loss by frequency against {base}"))
        return Section(
            "Perplexity by frequency",
            f"Perplexity of the {request.split} text's targets by the rank of their frequency in "
            "training (1 is the most frequent word): does a gain sit with rare words? The losses "
            "of the bands add up to the whole, the last row."
            + " Runs that learned another text have other words in a band: a table of their own."
            * (len(alike) > 1),
            pictures,
            [_grid(runs) for runs in alike.values()],
        )


def _grid(runs: Mapping[str, _Found]) -> Grid:
    first = next(iter(runs.values()))
    rows = [
        _row(band.first, band.last, [bands[i : i + 1] for bands in runs.values()])
        for i, band in enumerate(first)
    ]
    rows.append(_row(1, first[-1].last, list(runs.values())))
    return Grid(("ranks", "different words", "tokens", *runs), rows)


def _row(first: int, last: int, runs: Sequence[_Found]) -> tuple[str, ...]:
    """What several bands together, the same of each run, have of words, tokens and loss."""
    types, tokens = (sum(getattr(b, field) for b in runs[0]) for field in ("types", "tokens"))
    ranks = f"{first:,}–{last:,}"
    return ranks, f"{types:,}", f"{tokens:,}", *(number(perplexity(bands)) for bands in runs)


def _perplexities(runs: Mapping[str, _Found], request: Request, title: str) -> Figure:
    figure, axes = _axes(runs)
    for name, bands in runs.items():
        values = [_finite(band.perplexity) for band in bands]
        axes.plot(values, label=shown_name(name), **request.styles[name])
    value_axis(axes, [band.perplexity for bands in runs.values() for band in bands])
    axes.set(title=title, ylabel="perplexity")
    legend_below(figure, axes)
    return figure


def _gains(runs: Mapping[str, _Found], request: Request, title: str) -> Figure:
    figure, axes = _axes(runs)
    base = next(iter(runs.values()))
    gains = {name: list(map(_gain, base, bands)) for name, bands in runs.items()}
    for name, values in gains.items():
        axes.plot(values, label=shown_name(name), **request.styles[name])
    axes.axhline(0, color=INK, linewidth=0.6, zorder=0)
    # 0.1 nats are a tenth of the perplexity: less than that looks small.
    largest = max((abs(x) for values in gains.values() for x in values if isfinite(x)), default=0)
    half = max(1.15 * largest, 0.1)
    axes.set_ylim(-half, half)
    axes.set(title=title, ylabel="difference in loss (nats per token)\nbelow 0 is better")
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    return figure


def _axes(runs: Mapping[str, _Found]) -> tuple[Figure, Axes]:
    figure = new_figure(3.5)
    axes = figure.subplots()
    bands = next(iter(runs.values()))
    axes.set_xticks(
        range(len(bands)),
        [f"{band.first:,}–{band.last:,}" for band in bands],
        rotation=35,
        ha="right",
        rotation_mode="anchor",
    )
    axes.set_xlabel("rank of the target's frequency in training")
    return figure, axes


def _gain(first: FrequencyBand, band: FrequencyBand) -> float:
    """Difference in mean loss in nats; NaN without tokens."""
    a, b = _finite(band.perplexity), _finite(first.perplexity)
    return log(a) - log(b) if a > 0 and b > 0 else nan


def _finite(value: float) -> float:
    return value if isfinite(value) else nan
