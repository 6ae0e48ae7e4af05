"""How figures look: colours, markers and lines that survive colour-blindness and grey printing."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from define.measures.table import shorten

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Style = dict[str, Any]
"""Keyword arguments of a line."""

__all__ = [
    "COLOUR_MAP",
    "INK",
    "PAPER",
    "PARTS",
    "SERIES",
    "THEME",
    "Style",
    "drawing",
    "legend_below",
    "lines",
    "new_figure",
    "shown_name",
    "span",
    "value_axis",
]

INK, PAPER = "#1b1b1b", "#fffffe"
# Okabe and Ito's colours for all kinds of colour vision, without those too faint for a line. In
# grey, markers and line styles tell the runs apart; as many markers as there are, 8 against 7
# colours, so that no pair of the two comes twice within 56 runs.
SERIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#1c1c1c", "#e69f00", "#56b4e9")
PARTS = ("#d65f01", "#57b5ea", "#e8e8e8")  # of a model: unit, context model, tables
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")

THEME = dict(
    zip(
        (INK, PAPER, *SERIES, *PARTS),
        ("#e6e6e6", "#16191d")
        + ("#5ab1f2", "#ff8b4d", "#2fcb9b", "#e59bc7", "#f2f2f2", "#f0b429", "#a5dcf7")
        + ("#b9541a", "#2f6f9a", "#4a525c"),
        strict=True,
    )
)
"""Each colour that figures are drawn in, and its like on a dark page. All of them differ, so that
an SVG can be given both, see :func:`~define.report.svg.svg`."""

COLOUR_MAP = "cividis"
"""Perceptually uniform, the same to all kinds of colour vision, monotone in grey."""

WIDTH = 4.6
"""Inches of a figure: its text is read on a phone too, where it is 360 pixels wide."""


def drawing(families: Sequence[str] = ("DejaVu Sans",)) -> AbstractContextManager[None]:
    """The settings under which figures are made and written; outside, they stay as they were."""
    import matplotlib

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
    return matplotlib.rc_context(
        {
            **dict.fromkeys(inks, INK),
            "font.family": list(families),
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.facecolor": "none",
            "figure.facecolor": "none",
            "legend.frameon": False,
            "legend.fontsize": 9,
            "grid.color": "#808080",
            "hatch.color": INK,
            "text.parse_math": False,  # names are no formulas
            "svg.fonttype": "none",
            "svg.hashsalt": "define",  # the same figure is the same file
        }
    )


def lines(kinds: Iterable[Hashable]) -> list[Style]:
    """Colour, marker and line style of each run.

    Args:
        kinds: What runs that differ in the seed alone have in common: they share colour and line
            style. Names, where every run is of its own kind.
    """
    seen: dict[Hashable, int] = {}  # runs of each kind before the last one
    found = []
    for kind in kinds:
        seen[kind] = seen.get(kind, -1) + 1
        i = list(seen).index(kind)
        style = {
            "color": SERIES[i % len(SERIES)],
            "marker": _MARKERS[(i + seen[kind]) % len(_MARKERS)],
            "linestyle": _LINES[i % len(_LINES)],
            "markersize": 7,
            "markeredgecolor": PAPER,
            "markeredgewidth": 0.6,
        }
        found.append(style)
    return found


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """A figure of a size in inches whose layout makes room for all labels."""
    from matplotlib.figure import Figure  # no pyplot: nothing global remembers the figure

    return Figure(figsize=(width, height), dpi=72, layout="constrained")


def shown_name(text: str, width: int = 40) -> str:
    """A name as Matplotlib should show it: not too long, and no leading "_", which hides labels."""
    text = shorten(text, width)
    return f"\N{HAIR SPACE}{text}" if text.startswith("_") else text


def legend_below(figure: Figure, axes: Axes, columns: int = 1) -> None:
    """A legend below the axes, for which the figure becomes higher."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        rows = -(-len(handles) // columns)
        figure.set_figheight(figure.get_figheight() + 0.1 + 0.19 * rows)
        figure.legend(
            handles,
            labels,
            loc="outside lower center",
            ncols=columns,
            handlelength=4 if columns == 1 else 1.5,
            columnspacing=1,
        )


def value_axis(axes: Axes, values: Iterable[float], least: float = 0.2) -> None:
    """The vertical axis of some positive numbers, such as perplexities, and a grid.

    It is logarithmic, with plain numbers, where they differ much. Where they differ little, the
    axis still spans a share `least` of their size, so that a small difference looks small.
    """
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.grid(alpha=0.3)
    finite = [value for value in values if isfinite(value) and value > 0]
    if not finite:
        axes.set_yticks([])
        return
    low, high = min(finite), max(finite)
    if high > 3 * low:
        axes.set_yscale("log")
        ticks = (1, 1.5, 2, 3, 4, 5, 7) if high < 20 * low else (1, 2, 5)
        ticks = ticks if high < 3000 * low else (1,)
        axes.yaxis.set_major_locator(LogLocator(subs=ticks))
        axes.yaxis.set_minor_locator(NullLocator())
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    else:
        span(axes.set_ylim, low, high, least)


def span(set_limits: Any, low: float, high: float, least: float) -> None:  # noqa: ANN401
    """Sets the limits of an axis around some values: at least a share `least` of their middle."""
    middle = (low + high) / 2
    half = max(0.6 * (high - low), least * abs(middle) / 2)
    if half > 0:
        set_limits(middle - half, middle + half)
