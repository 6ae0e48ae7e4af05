"""Whether the groups of a layer learn different things: the poster's third claim."""

from collections.abc import Mapping

from define.measures.layers import LayerCorrelation, split_groups
from define.measures.subject import Readings
from define.report.heatmaps import heat_maps, scale_top
from define.report.part import Grid, Part, Picture, Request, Section, number
from define.report.style import shown_name

__all__ = ["GroupsPart"]

_Found = list[LayerCorrelation]  # those of several groups


class GroupsPart(Part[_Found]):
    """Mean |correlation| within and between groups; `layers` of the JSON has the matrices."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        return [layer for layer in readings.layers[0] if layer.groups > 1]

    def section(self, found: Mapping[str, _Found], request: Request) -> Section | None:
        runs = {name: layers for name, layers in found.items() if layers}
        if not runs:
            return None
        pictures, rows = [], []
        matrices = (layer.between_groups for layers in runs.values() for layer in layers)
        top = scale_top(matrices, diagonal=True)
        for i, (name, layers) in enumerate(runs.items(), 1):
            panels = []
            for layer in layers:
                within, between = split_groups(layer.between_groups)
                rows.append((name, layer.name, str(layer.groups), number(within), number(between)))
                title = f"{layer.name}\nwithin {within:.3f}, between {between:.3f}"
                panels.append((title, layer.between_groups))
            title = f"{shown_name(name)}\nmean |correlation| between groups"
            description = f"Mean |correlation| between the groups of each layer of {name}"
            pictures.append(
                Picture(f"groups-{i}", heat_maps(title, panels, "group", top), description)
            )
        header = ("run", "layer", "groups", "mean |r| within groups", "between groups")
        return Section(
            "Groups within a layer",
            "The poster's third claim: the groups within a layer learn different things, so the "
            "correlation between features of different groups is low.",
            pictures,
            [Grid(header, rows)],
        )
