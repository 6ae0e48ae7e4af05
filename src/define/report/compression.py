"""What a compression did to tables: in words, and as a figure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn

from define.compression import Candidate
from define.measures import BandError, Neighbours, band_errors, changed_neighbours
from define.report.style import (
    SERIES,
    drawing,
    legend_below,
    lines,
    new_figure,
    shown_name,
    value_axis,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["SmallerTable", "compression_figure", "draw_compression"]

_EXAMPLES = 5


@dataclass(frozen=True)
class SmallerTable:
    """A table, what stands for it, and what else could.

    Args:
        name: Of the table.
        before: The table (V, m).
        after: What stands for it.
        weights: (V,) what an error in each row costs.
        words: The word or token of each row; None where they have no names.
        candidates: The ways to store it that were tried, the best first.
    """

    name: str
    before: Tensor
    after: nn.Module
    weights: Tensor
    words: Sequence[str] | None = None
    candidates: tuple[Candidate, ...] = field(default=(), repr=False)

    @cached_property
    def errors(self) -> tuple[BandError, ...]:
        """By frequency."""
        return band_errors(self.before, self.after, self.weights)

    @cached_property
    def neighbours(self) -> Neighbours:
        """Of some rows."""
        return changed_neighbours(self.before, self.after, self.weights)

    def report(self) -> list[str]:
        """Lines on errors and neighbours."""
        bands = ", ".join(
            f"{e.first:,}-{e.last:,} {'(rows of zeros)' if isnan(e.error) else f'{e.error:.3g}'}"
            for e in self.errors
        )
        told = [f"{self.name}: error by rank: {bands}"]
        found = self.neighbours
        if not (count := found.before.shape[1]):  # a single row
            return told
        told.append(
            f"{self.name}: of the {count} nearest neighbours of {len(found.ids)} rows of all "
            f"ranks, {count * found.kept:.1f} are the same"
        )
        changed = (found.before[:, 0] != found.after[:, 0]).nonzero().flatten().tolist()
        for i in changed[:: -(-len(changed) // _EXAMPLES) or 1]:
            names = (self._word(x[i]) for x in (found.ids, found.before[:, 0], found.after[:, 0]))
            told.append("  nearest to {}: {} -> {}".format(*names))
        return told

    def _word(self, id_: Tensor) -> str:
        words = self.words
        return f"row {int(id_)}" if words is None else repr(words[int(id_)])


def compression_figure(tables: Sequence[SmallerTable]) -> Figure:
    """Error by frequency, and errors of the ways that were tried.

    It is made while :func:`~define.report.style.drawing` holds.
    """
    shown = next((table for table in tables if table.candidates), None)
    tried = shown.candidates if shown else ()
    heights = [2.7, 0.3 + 0.34 * len(tried)] if tried else [2.7]
    figure = new_figure(sum(heights))
    axes = figure.subplots(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
    _draw_bands(axes[0], tables)
    if shown:
        of = f"\n({shown_name(shown.name)})" if len(tables) > 1 else ""
        axes[1].set_title(f"Weighted relative error; the first was taken{of}", loc="left")
        _draw_candidates(axes[1], tried)
    if len(tables) > 1:
        legend_below(figure, axes[0])
    return figure


def _draw_bands(axes: Axes, tables: Sequence[SmallerTable]) -> None:
    for table, style in zip(tables, lines(table.name for table in tables), strict=True):
        values = [band.error for band in table.errors]
        axes.plot(range(len(values)), values, label=shown_name(table.name), **style)
    longest = max(tables, key=lambda table: len(table.errors)).errors
    axes.set_xticks(range(len(longest)), [f"≤ {band.last:,}" for band in longest], rotation=30)
    axes.set_xlabel("rank of the word by frequency")
    axes.set_ylabel("relative error")
    value_axis(axes, [band.error for table in tables for band in table.errors])
    axes.set_title("Error by frequency", loc="left")


def _draw_candidates(axes: Axes, tried: Sequence[Candidate]) -> None:
    places = range(len(tried))[::-1]
    axes.barh(places, [candidate.error for candidate in tried], color=SERIES[0], height=0.3)
    for place, candidate in zip(places, tried, strict=True):
        text = f"{candidate.name}: {candidate.error:.3g}"
        axes.text(0, place + 0.2, text, va="bottom", fontsize=8)
    axes.set_ylim(-0.5, len(tried))
    axes.set_axis_off()  # each bar has its number


def draw_compression(tables: Sequence[SmallerTable], path: Path) -> None:
    """Writes the figure to a file."""
    from define.report.svg import save

    with drawing():
        save(compression_figure(tables), path)
