"""Several trained runs in figures: parameters, training, and what they reach for their size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, nan
from pathlib import Path
from typing import TYPE_CHECKING

from define.measures.summary import RunSummary
from define.report.style import (
    INK,
    PARTS,
    Style,
    drawing,
    legend_below,
    lines,
    new_figure,
    shown_name,
    span,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "comparison_figure", "draw_comparison", "panels"]

_Runs = Sequence[RunSummary]
# Parts of a model: field, label, hatch.
_PARTS = (
    ("unit", "embedding unit", "xxxx"),
    ("context", "context model", ""),
    ("input_output", "input and output", "////"),
)


@dataclass(frozen=True)
class Panel:
    """One figure of several runs.

    Attributes:
        name: Of its file.
        title: What it shows, in words.
        draw: Draws it into empty axes.
        columns: Of its legend.
        height: Inches of the axes, by the number of runs.
    """

    name: str
    title: str
    draw: Callable[[Axes, _Runs, Sequence[Style]], None]
    columns: int = 1
    height: Callable[[int], float] = lambda runs: 3.3

    def figure(self, summaries: _Runs, styles: Sequence[Style]) -> Figure:
        """The panel as a figure of its own, with a legend."""
        figure = new_figure(self.height(len(summaries)))
        axes = figure.subplots()
        self.draw(axes, summaries, styles)
        legend_below(figure, axes, self.columns)
        return figure


def panels(summaries: _Runs) -> tuple[Panel, ...]:
    """The panels that have something to show."""
    scored = any(run.test_bleu is not None for run in summaries)
    history = Panel("history", "Validation perplexity during training", _draw_history)
    return (
        Panel("parameters", "Parameters by part of the model", _draw_parameters, 3, _bars_height),
        *([history] if any(map(_points, summaries)) else []),
        Panel("perplexity", "Perplexity against parameters", _draw_perplexity),
        *([Panel("bleu", "BLEU of the test against parameters", _draw_bleu)] if scored else []),
    )


def draw_comparison(summaries: _Runs, path: str | Path) -> list[str]:
    """Draws :func:`comparison_figure` to a file: PNG, SVG or what else the ending says.

    Returns:
        The characters of names that no font here has; they are boxes, but in an SVG.
    """
    from define.report.svg import fallback_fonts, save

    with drawing(fallback_fonts("".join(run.name for run in summaries))):
        return save(comparison_figure(summaries), path)


def comparison_figure(summaries: _Runs, styles: Sequence[Style] | None = None) -> Figure:
    """Parameters by part, validation perplexity in training, test perplexity and BLEU by size.

    Args:
        summaries: The runs, at least one.
        styles: Of the runs' lines; runs that differ in the seed alone share colour and
            line style if omitted.

    Raises:
        ValueError: If there are no runs.
    """
    if not summaries:
        raise ValueError("There are no runs to compare.")
    styles = lines(run.kind for run in summaries) if styles is None else styles
    first, *others = panels(summaries)
    above, below = first.height(len(summaries)) + 0.4, 3.6 + 0.2 * -(-len(summaries) // 2)
    figure = new_figure(above + below, 4.8 * max(2, len(others)))
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(above, below))[:, 0]
    bars = top.subplots()
    first.draw(bars, summaries, styles)
    bars.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=first.columns)
    row = bottom.subplots(1, len(others), squeeze=False)[0]
    for panel, axes in zip(others, row, strict=True):
        panel.draw(axes, summaries, styles)
    # One legend for all: each run is drawn alike in every panel.
    names = [
        shown_name(run.name) + ("" if isfinite(run.valid_perplexity) else " (diverged)")
        for run in summaries
    ]
    drawn = row[0].get_lines()[: len(names)]
    bottom.legend(drawn, names, loc="outside lower center", ncols=2, handlelength=4)
    return figure


def _bars_height(runs: int) -> float:
    return 0.8 + 0.48 * runs


def _draw_parameters(axes: Axes, summaries: _Runs, styles: Sequence[Style]) -> None:
    places = range(len(summaries))
    left = [0.0] * len(summaries)
    for (field, label, hatch), colour in zip(_PARTS, PARTS, strict=True):
        widths = [getattr(run, field) / 1e6 for run in summaries]
        style: Style = {"color": colour, "hatch": hatch, "edgecolor": INK, "linewidth": 0.6}
        axes.barh(places, widths, 0.4, left=left, label=label, **style)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, total, run in zip(places, left, summaries, strict=True):
        axes.annotate(
            f"{total:.2f}", (total, place), (5, 0), textcoords="offset points", va="center"
        )
        # Above its bar, where a long name has room.
        axes.annotate(
            shown_name(run.name, 48), (0, place - 0.25), (2, 3), textcoords="offset points"
        )
    axes.set_xlim(0, 1.15 * max(left))  # room for the totals
    axes.set_ylim(len(summaries) - 0.7, -0.75)  # the first run on top, as in the table
    axes.set_yticks([])
    axes.set_title("Parameters", loc="left")
    axes.set_xlabel("parameters (millions)")
    axes.spines[["top", "right", "left"]].set_visible(False)


def _points(run: RunSummary) -> list[tuple[int, float]]:
    """Validations that gave a number."""
    return [(tokens, perplexity) for tokens, perplexity in run.history if isfinite(perplexity)]


def _label(run: RunSummary, shown: bool) -> str:
    """In a legend, which is for what is shown; a leading "_" hides it."""
    return shown_name(run.name) if shown else "_"


def _draw_history(axes: Axes, summaries: _Runs, styles: Sequence[Style]) -> None:
    from matplotlib.ticker import MaxNLocator

    epoch = _epoch_tokens(summaries)
    for i, run in enumerate(summaries):
        points = [(tokens / (epoch or 1e6), ppl) for tokens, ppl in _points(run)]
        x, y = zip(*points, strict=True) if points else ((), ())
        # At most a dozen markers, not all at the same places.
        step = -(-len(points) // 12)
        every: Style = {"markevery": (i % step, step)} if step > 1 else {}
        axes.plot(x, y, label=_label(run, bool(points)), **styles[i], **every)
    value_axis(axes, [ppl for run in summaries for _, ppl in run.history])
    axes.set(
        title="Validation perplexity during training",
        xlabel="training tokens (millions)" if epoch is None else "epochs of training",
        ylabel="validation perplexity",
    )
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=epoch is not None, min_n_ticks=1))
    axes.set_xlim(left=0)


def _epoch_tokens(summaries: _Runs) -> float | None:
    """Tokens of an epoch, where all runs with a history have epochs of about the same length.

    None too where no run goes much beyond the first: there an epoch is no measure.
    """
    lengths = [run.epoch_tokens for run in summaries if run.history]
    known = [length for length in lengths if length is not None]
    if not known or len(known) < len(lengths) or max(known) > 1.02 * min(known):
        return None  # 2 %: what the last, incomplete batch of different batch sizes leaves out
    longest = max(run.history[-1][0] for run in summaries if run.history)
    return known[0] if longest > 1.5 * known[0] else None


def _draw_perplexity(axes: Axes, summaries: _Runs, styles: Sequence[Style]) -> None:
    tests = [run.test_perplexity for run in summaries if run.test_perplexity is not None]
    tested = len(tests) == len(summaries)
    values = tests if tested else [run.valid_perplexity for run in summaries]
    what = "Test" if tested else "Validation"
    _draw_by_size(axes, summaries, styles, values)
    value_axis(axes, values)
    axes.set(title=f"{what} perplexity against parameters", ylabel=f"{what.lower()} perplexity")


def _draw_bleu(axes: Axes, summaries: _Runs, styles: Sequence[Style]) -> None:
    values = [nan if run.test_bleu is None else run.test_bleu for run in summaries]
    _draw_by_size(axes, summaries, styles, values)
    axes.grid(alpha=0.3)
    known = [value for value in values if isfinite(value)]
    # Test sets of a thousand sentences leave BLEU uncertain by about one point (Koehn 2004).
    half = max(0.6 * (max(known) - min(known)), 2.0)
    middle = (max(known) + min(known)) / 2
    axes.set_ylim(max(0.0, middle - half), middle + half)
    axes.set(title="Test BLEU against parameters", ylabel="test BLEU")


def _draw_by_size(
    axes: Axes, summaries: _Runs, styles: Sequence[Style], values: Sequence[float]
) -> None:
    """A point for each run; a bar joins those that differ in the seed alone."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(5))
    kinds: dict[tuple[object, str], list[tuple[float, float]]] = {}
    for run, value, own in zip(summaries, values, styles, strict=True):
        size = run.total / 1e6
        style: Style = own | {"linestyle": "none"}
        shown = isfinite(value)
        axes.plot(size, value if shown else nan, label=_label(run, shown), **style)
        if shown:
            kinds.setdefault((run.kind, own["color"]), []).append((size, value))
    for (_, colour), points in kinds.items():
        axes.plot(*zip(*points, strict=True), color=colour, linewidth=3, alpha=0.4, zorder=1)
    sizes = [run.total / 1e6 for run in summaries]
    span(axes.set_xlim, min(sizes), max(sizes), 0.2)
    axes.set_xlabel("parameters (millions)")
