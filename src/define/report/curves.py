"""Figures of several runs: spectra, correlation by depth, perplexity by frequency, word maps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import isfinite, log, nan
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from define.measures.bands import FrequencyBand
from define.measures.correlation import Correlation
from define.measures.layers import LayerCorrelation
from define.measures.word_map import WordMap
from define.report.style import Style, lines, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["band_figure", "depth_figure", "map_figure", "spectrum_figure"]


def spectrum_figure(
    correlations: Mapping[str, Correlation], styles: Mapping[str, Style] | None = None
) -> Figure:
    """Singular values of each centred table, the largest as 1; zeros are left out.

    Args:
        correlations: By name.
        styles: Of the lines, by name, where figures are to agree; as in all figures here.
    """
    styles = styles or _own(correlations)
    figure = new_figure(7, 4.2)
    axes = figure.subplots()
    for name, found in correlations.items():
        values = found.singular_values[found.singular_values > 0]
        if len(values):
            style: Style = styles[name] | {"markevery": max(1, len(values) // 12)}
            label = f"{plain(name)} (effective rank {found.effective_rank:.0f})"
            axes.plot(range(1, len(values) + 1), values / values[0], label=label, **style)
    axes.set(
        title="Spectrum of each embedding",
        xlabel="principal axis",
        ylabel="singular value (largest = 1)",
        ylim=(0, 1.03),
    )
    axes.grid(alpha=0.3)
    _legend_below(figure, axes)
    return figure


def depth_figure(
    layers: Mapping[str, Sequence[LayerCorrelation]], styles: Mapping[str, Style] | None = None
) -> Figure:
    """Mean |correlation| and effective rank from the Map to the output, for each embedding."""
    styles = styles or _own(layers)
    depth = max(len(run) for run in layers.values()) - 2  # of Expand
    figure = new_figure(9, 4.0)
    left, right = figure.subplots(1, 2)
    for name, run in layers.items():
        # The ends stand at the ends, whatever the depth.
        places = [*range(len(run) - 1), depth + 1]
        left.plot(
            places, [x.correlation.mean_absolute for x in run], label=plain(name), **styles[name]
        )
        shares = [x.correlation.effective_rank / len(x.correlation.matrix) for x in run]
        right.plot(places, [100 * share for share in shares], **styles[name])
    ticks = ["Map", *(str(layer) for layer in range(1, depth + 1)), "output"]
    for axes in (left, right):
        axes.set_xticks(range(depth + 2), ticks)
        axes.set_xlabel("layer")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
    left.set(title="Correlation by depth", ylabel="mean |correlation|")
    right.set(title="Effective rank by depth", ylabel="effective rank (% of the width)")
    _legend_below(figure, left)
    return figure


def band_figure(
    bands: Mapping[str, Sequence[FrequencyBand]],
    split: str = "test",
    styles: Mapping[str, Style] | None = None,
) -> Figure:
    """Perplexity by the frequency of the target, and, with several runs, the gain over the first.

    Args:
        bands: By name of the run, at least one; all of the same text and bands.
        split: Name of the text, for the title.
        styles: Of the lines, by name.
    """
    styles = styles or _own(bands)
    runs = list(bands.values())
    ticks = [f"{band.first:,}–\n{band.last:,}" for band in runs[0]]
    figure = new_figure(10 if len(runs) > 1 else 6, 4.4)
    panels = figure.subplots(1, min(len(runs), 2), squeeze=False)[0]
    for name, run in bands.items():
        perplexities = [_finite(band.perplexity) for band in run]
        panels[0].plot(perplexities, label=plain(name, 40), **styles[name])
        if len(runs) > 1:
            gains = [_gain(first, band) for first, band in zip(runs[0], run, strict=True)]
            panels[1].plot(gains, **styles[name])
    for axes in panels:
        axes.set_xticks(range(len(ticks)), ticks, fontsize=8)
        axes.set_xlabel("rank of the target's frequency in training")
        axes.grid(alpha=0.3)
    if any(isfinite(band.perplexity) for run in runs for band in run):
        _plain_log(panels[0])
    panels[0].set(title=f"Perplexity by frequency ({split})", ylabel="perplexity")
    if len(runs) > 1:
        panels[1].set(
            title=f"Loss against {plain(next(iter(bands)))}",
            ylabel="difference in loss (nats per token)\nbelow 0 is better",
        )
    _legend_below(figure, panels[0])
    return figure


def map_figure(maps: Mapping[str, WordMap], words: Sequence[str], title: str = "") -> Figure:
    """Words on the first two principal axes of each embedding, as many labels as there is room.

    All panels have one scale: the unit is the root mean square of the words' distances from their
    mean, so a point's distance from 0 says how much of a word the plane shows.

    Args:
        maps: By name, at least one.
        words: The vocabulary; those of lower place in a map are labelled first.
        title: Of the whole.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    columns = min(len(maps), 2)
    rows = -(-len(maps) // columns)
    figure = new_figure(5.6 * columns, 5.2 * rows)
    panels = figure.subplots(rows, columns, squeeze=False).flatten()
    for panel, (name, found) in zip(panels, maps.items(), strict=False):
        x, y = _in_units(found).T.numpy()
        panel.scatter(x, y, s=6, color="#888888", linewidths=0)
        first, second = (f"{100 * share:.0f} % of the variance" for share in found.explained)
        panel.set_title(plain(name, 40), fontsize=10)
        panel.set_xlabel(f"first axis ({first})")
        panel.set_ylabel(f"second axis ({second})")
    for panel in panels[len(maps) :]:
        panel.remove()
    # As wide and as high as the widest and the highest cloud, each around its own middle.
    corners = [_in_units(found).aminmax(dim=0) for found in maps.values()]
    spans = torch.stack([high - low for low, high in corners]).amax(0).clamp(min=1e-3)
    for panel, (low, high) in zip(panels, corners, strict=False):
        middle = (low + high) / 2
        ends = torch.stack([middle - 0.57 * spans, middle + 0.57 * spans], -1).tolist()
        panel.set(xlim=ends[0], ylim=ends[1], aspect="equal")
    if title:
        figure.suptitle(title, fontsize=11)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # makes the layout, so that the boxes of labels are known
    for panel, found in zip(panels, maps.values(), strict=False):
        _label(panel, canvas.get_renderer(), found, words)
    return figure


def _label(axes: Axes, renderer: RendererBase, found: WordMap, words: Sequence[str]) -> None:
    """Labels points in order, beside, above or below, where no label or point is in the way."""
    taken: list[Bbox] = []
    places = _in_units(found)
    points = axes.transData.transform(places.numpy())
    frame = axes.get_window_extent(renderer)
    for id_, place in zip(found.ids.tolist(), places.tolist(), strict=True):
        for offset, h, v in (
            ((3, 0), "left", "center"),
            ((-3, 0), "right", "center"),
            ((0, 3), "center", "bottom"),
            ((0, -3), "center", "top"),
        ):
            text = axes.annotate(
                plain(words[int(id_)], 18),
                place,
                offset,
                textcoords="offset points",
                ha=h,
                va=v,
                fontsize=7,
                in_layout=False,
            )
            box = text.get_window_extent(renderer).padded(0.5)
            inside = frame.x0 < box.x0 and box.x1 < frame.x1
            inside = inside and frame.y0 < box.y0 and box.y1 < frame.y1
            if (
                inside
                and not any(box.overlaps(other) for other in taken)
                and not box.count_contains(points)
            ):
                taken.append(box)
                break
            text.remove()


def _in_units(found: WordMap) -> Tensor:
    """(words, 2) places, by the root mean square of the words' distances from their mean."""
    share = sum(found.explained)
    distance = (found.places.square().sum(-1).mean() / share).sqrt() if share > 0 else 1.0
    return found.places / distance


def _own(names: Iterable[str]) -> dict[str, Style]:
    names = list(names)
    return dict(zip(names, lines(names), strict=True))


def _gain(first: FrequencyBand, band: FrequencyBand) -> float:
    """Difference in mean loss in nats; NaN without tokens."""
    a, b = _finite(band.perplexity), _finite(first.perplexity)
    return log(a) - log(b) if a > 0 and b > 0 else nan


def _finite(value: float) -> float:
    return value if isfinite(value) else nan


def _plain_log(axes: Axes) -> None:
    """A logarithmic axis with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))


def _legend_below(figure: Figure, axes: Axes) -> None:
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        figure.legend(
            handles, labels, loc="outside lower center", ncols=2, handlelength=4, fontsize=8
        )
