"""Several trained runs in one figure."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from define.measures.summary import RunSummary
from define.report.style import Style, lines, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["comparison_figure", "draw_comparison"]

# Parts of a model: field, label, colour, hatch.
_PARTS = (
    ("unit", "embedding unit", "#D55E00", "xxxx"),
    ("context", "context model", "#56B4E9", ""),
    ("input_output", "input and output", "#E8E8E8", "////"),
)
_NAME = 36  # characters of a name


def draw_comparison(summaries: Sequence[RunSummary], path: str | Path) -> None:
    """Draws :func:`comparison_figure` to a file: PNG, SVG or what else the ending says."""
    comparison_figure(summaries).savefig(path)


def comparison_figure(
    summaries: Sequence[RunSummary], styles: Sequence[Style] | None = None
) -> Figure:
    """Three panels: parameters by part, perplexity against epochs, perplexity against parameters.

    The second one counts tokens instead of epochs where those are not known or, of different texts,
    not the same, or there is hardly more than one. The last one shows test perplexity where all
    runs have it, and validation perplexity else. Perplexities that are not finite are left out.

    Args:
        summaries: The runs, at least one.
        styles: Of the runs' lines; runs that differ in the seed alone share colour and
            line style if omitted.

    Raises:
        ValueError: If there are no runs.
    """
    if not summaries:
        raise ValueError("There are no runs to compare.")
    if styles is None:
        styles = lines(run.kind for run in summaries)
    count = len(summaries)
    above = 1.1 + 0.32 * count  # inches
    below = 3.9 + 0.25 * ((count + 1) // 2)
    figure = new_figure(10, above + below)
    # Two parts, since the names beside the bars should not push in the panels below.
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=(above, below))[:, 0]
    _draw_parameters(top.subplots(), summaries)
    history, size = bottom.subplots(1, 2)
    handles = _draw_history(history, summaries, styles)
    _draw_perplexity(size, summaries, styles)
    names = [plain(run.name, _NAME) for run in summaries]
    bottom.legend(handles, names, loc="outside lower center", ncols=2, handlelength=4)
    return figure


def _draw_parameters(axes: Axes, summaries: Sequence[RunSummary]) -> None:
    places = range(len(summaries))
    left = [0.0] * len(summaries)
    for field, label, colour, hatch in _PARTS:
        widths = [getattr(run, field) / 1e6 for run in summaries]
        style = {"color": colour, "hatch": hatch, "edgecolor": "black", "linewidth": 0.6}
        axes.barh(places, widths, left=left, label=label, **style)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for place, total in zip(places, left, strict=True):
        axes.annotate(
            f"{total:.2f}", (total, place), (5, 0), textcoords="offset points", va="center"
        )
    axes.set_xlim(0, 1.1 * max(left))  # room for the totals
    axes.set_yticks(places, [plain(run.name, _NAME) for run in summaries])
    axes.invert_yaxis()  # the first run on top, as in the table
    axes.set_title("Parameters", loc="left")
    axes.set_xlabel("parameters (millions)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False)


def _draw_history(
    axes: Axes, summaries: Sequence[RunSummary], styles: Sequence[Style]
) -> list[Any]:
    """Draws a line for each run; returns them for the legend."""
    from matplotlib.ticker import MaxNLocator

    epoch = _epoch_tokens(summaries)
    drawn = []
    for i, run in enumerate(summaries):
        points = [(tokens / (epoch or 1e6), ppl) for tokens, ppl in run.history if isfinite(ppl)]
        x, y = zip(*points, strict=True) if points else ((), ())
        # At most a dozen markers, not all at the same places.
        step = -(-len(points) // 12)
        every: Style = {"markevery": (i % step, step)} if step > 1 else {}
        drawn += axes.plot(x, y, **styles[i], **every)
    _scale(axes, [ppl for run in summaries for _, ppl in run.history])
    axes.set(
        title="Validation perplexity during training",
        xlabel="training tokens (millions)" if epoch is None else "epochs of training",
        ylabel="validation perplexity",
    )
    if epoch is not None:
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, min_n_ticks=1))
    axes.set_xlim(left=0)
    return drawn


def _epoch_tokens(summaries: Sequence[RunSummary]) -> float | None:
    """Tokens of an epoch, where all runs with a history have epochs of about the same length.

    None too where no run goes much beyond the first: there an epoch is no measure.
    """
    lengths = [run.epoch_tokens for run in summaries if run.history]
    known = [length for length in lengths if length is not None]
    if not known or len(known) < len(lengths) or max(known) > 1.02 * min(known):
        return None  # 2 %: what the last, incomplete batch of different batch sizes leaves out
    longest = max(run.history[-1][0] for run in summaries if run.history)
    return known[0] if longest > 1.5 * known[0] else None


def _draw_perplexity(axes: Axes, summaries: Sequence[RunSummary], styles: Sequence[Style]) -> None:
    tests = [run.test_perplexity for run in summaries if run.test_perplexity is not None]
    tested = len(tests) == len(summaries)
    values = tests if tested else [run.valid_perplexity for run in summaries]
    what = "Test" if tested else "Validation"
    for run, value, own in zip(summaries, values, styles, strict=True):
        if isfinite(value):
            style: Style = own | {"linestyle": "none"}
            axes.plot(run.total / 1e6, value, **style)
    _scale(axes, values)
    axes.margins(0.1)
    axes.set(
        title=f"{what} perplexity against parameters",
        xlabel="parameters (millions)",
        ylabel=f"{what.lower()} perplexity",
    )


def _scale(axes: Axes, perplexities: Sequence[float]) -> None:
    """A logarithmic axis with plain numbers where perplexities differ much; a grid in any case."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.grid(alpha=0.3)
    finite = [value for value in perplexities if isfinite(value)]
    if finite and max(finite) > 3 * min(finite) > 0:
        wide = max(finite) > 20 * min(finite)
        axes.set_yscale("log")
        ticks = (1, 2, 5) if wide else (1, 1.5, 2, 3, 4, 5, 7)
        axes.yaxis.set_major_locator(LogLocator(subs=ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
