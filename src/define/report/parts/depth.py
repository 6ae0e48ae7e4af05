"""How correlation falls from the Map to the output: the poster's second claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from define.measures.layers import LayerCorrelation
from define.measures.subject import Readings
from define.measures.table import MISSING
from define.report.heatmaps import heat_maps, scale_top
from define.report.part import Grid, Part, Picture, Request, Section, number
from define.report.parts.correlation import HEADER, as_json, cells, left_out
from define.report.style import legend_below, new_figure, shown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DepthPart"]

_Layers = tuple[LayerCorrelation, ...]
_Found = tuple[_Layers, ...]  # for each weighting


class DepthPart(Part[_Found]):
    """Correlation and effective rank of each layer."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        return readings.layers

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        once, *weighted = ([_layer_json(layer) for layer in layers] for layers in found)
        return {
            "layers": once,
            "layers_weighted_by_frequency": weighted[0] if weighted else [],
        }

    def section(self, found: Mapping[str, _Found], request: Request) -> Section | None:
        runs = {name: layers[0] for name, layers in found.items() if layers[0]}
        if not runs:
            return None
        pictures = [
            Picture(
                "depth",
                _by_depth(runs, request, "mean |correlation|", _mean),
                "Mean |correlation| from the Map to the output",
            ),
            Picture(
                "depth-rank",
                _by_depth(runs, request, "effective rank (% of the width)", _rank),
                "Effective rank from the Map to the output",
            ),
        ]
        # One scale for all runs, since they are compared.
        top = scale_top(layer.correlation.matrix for run in runs.values() for layer in run)
        rows = []
        for i, (name, layers) in enumerate(runs.items(), 1):
            panels = [(_title(layer), layer.correlation.matrix) for layer in layers]
            figure = heat_maps(f"{shown_name(name)}\nlayer by layer", panels, "feature", top)
            description = f"Heat maps of |correlation| in each layer of {name}"
            pictures.append(Picture(f"layers-{i}", figure, description))
            weighted = [
                number(layer.correlation.mean_absolute) for layer in (found[name][1:] or [()])[0]
            ] or [MISSING] * len(layers)
            rows += [
                (name, layer.name, str(layer.groups), *cells(layer.correlation), mean)
                for layer, mean in zip(layers, weighted, strict=True)
            ]
        header = ("run", "layer", "groups", *HEADER, "mean |r| weighted by frequency")
        text = (
            "The poster's second claim: the Map's dimensions are correlated, and with depth the "
            "correlations shrink, layer by layer. Layers of Expand are measured after their "
            "activation, over 65,536 words drawn at random if there are more; words are weighted "
            "equally, but for the last column."
        )
        inside = (
            (name, layer.name, layer.correlation)
            for name, layers in runs.items()
            for layer in layers[:-1]
        )
        grids = [Grid(header, rows), *left_out(inside)]
        return Section("From the Map to the output", text, pictures, grids)


def _layer_json(layer: LayerCorrelation) -> dict[str, Any]:
    return {
        "name": layer.name,
        "groups": layer.groups,
        **as_json(layer.correlation),
        "between_groups": layer.between_groups.tolist(),
    }


def _title(layer: LayerCorrelation) -> str:
    groups = f" ({layer.groups} groups)" if layer.groups > 1 else ""
    return f"{layer.name}{groups}\nmean |r| = {_mean(layer):.3f}"


def _mean(layer: LayerCorrelation) -> float:
    return layer.correlation.mean_absolute


def _rank(layer: LayerCorrelation) -> float:
    return 100 * layer.correlation.effective_rank / len(layer.correlation.matrix)


def _by_depth(
    runs: Mapping[str, Sequence[LayerCorrelation]],
    request: Request,
    label: str,
    value: Callable[[LayerCorrelation], float],
) -> Figure:
    depth = max(len(layers) for layers in runs.values()) - 2  # of Expand
    figure = new_figure(3.3)
    axes = figure.subplots()
    for name, layers in runs.items():
        # The ends stand at the ends, whatever the depth.
        places = [*range(len(layers) - 1), depth + 1]
        axes.plot(places, list(map(value, layers)), label=shown_name(name), **request.styles[name])
    ticks = ["Map", *(str(layer) for layer in range(1, depth + 1)), "output"]
    axes.set_xticks(range(depth + 2), ticks)
    axes.update_datalim([(0, 0)])  # margins are of an axis from 0 on: no marker lies on the frame
    axes.margins(0.06)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.set(title=f"{label[0].upper()}{label[1:]} by depth", xlabel="layer", ylabel=label)
    legend_below(figure, axes)
    return figure
