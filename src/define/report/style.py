"""How figures look: colours, markers and lines that survive colour-blindness and grey printing."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterable
from io import BytesIO
from typing import TYPE_CHECKING, Any

from define.measures.table import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Style = dict[str, Any]
"""Keyword arguments of a line."""

__all__ = ["COLOUR_MAP", "Style", "lines", "new_figure", "plain", "png"]

# Okabe and Ito's colours for all kinds of colour vision, without those too faint for a line. In
# grey, markers and line styles tell the runs apart; as many markers as there are, 8 against 7
# colours, so that no pair of the two comes twice within 56 runs.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000", "#E69F00", "#56B4E9")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_LINES = ("-", "--", "-.", ":")

COLOUR_MAP = "cividis"
"""Perceptually uniform, the same to all kinds of colour vision, monotone in grey."""


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
            "color": _COLOURS[i % len(_COLOURS)],
            "marker": _MARKERS[(i + seen[kind]) % len(_MARKERS)],
            "linestyle": _LINES[i % len(_LINES)],
            "markersize": 7,
            "markeredgecolor": "white",
            "markeredgewidth": 0.6,
        }
        found.append(style)
    return found


def new_figure(width: float, height: float) -> Figure:
    """A figure of a size in inches whose layout makes room for all labels."""
    from matplotlib.figure import Figure  # no pyplot: nothing global remembers the figure

    return Figure(figsize=(width, height), dpi=130, layout="constrained")


def plain(text: str, width: int = 28) -> str:
    """A name as Matplotlib should show it: no formulas, and no leading "_", which hides labels."""
    text = shorten(text, width).replace("$", r"\$")
    return f"\N{HAIR SPACE}{text}" if text.startswith("_") else text


def png(figure: Figure) -> bytes:
    """The figure as the content of a PNG file."""
    buffer = BytesIO()
    with warnings.catch_warnings():
        # A word in a script that the font has not becomes boxes; the tables have it in full.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figure.savefig(buffer, format="png")
    return buffer.getvalue()
