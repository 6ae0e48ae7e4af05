"""Words in the plane in which their vectors differ most."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from define.measures.subject import Readings
from define.measures.words import WordMap, frequent_words, word_map
from define.report.part import Part, Picture, Request, Section
from define.report.style import new_figure, shown_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.backend_bases import RendererBase
    from matplotlib.figure import Figure
    from matplotlib.transforms import Bbox

__all__ = ["WordMapPart"]

_MAPPED = 150  # words, at most
_Found = tuple[WordMap, bool]  # whether its words are the most frequent ones


class WordMapPart(Part[_Found]):
    """The first two principal axes of the most frequent words."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        counts = readings.subject.counts
        ids = frequent_words(request.words, counts)[:_MAPPED]
        return word_map(readings.rows, torch.tensor(ids)), counts is not None

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        shown, _ = found
        words = [request.words[i] for i in shown.ids.tolist()]
        places, explained = shown.places.tolist(), shown.explained
        return {"map": {"words": words, "places": places, "explained": explained}}

    def section(self, found: Mapping[str, _Found], request: Request) -> Section:
        maps = {name: shown for name, (shown, _) in found.items()}
        frequent = all(frequent for _, frequent in found.values())
        which = "most frequent words" if frequent else "first words of the vocabulary"
        # As wide and as high as the widest and the highest cloud, each around its own middle.
        corners = [_in_units(shown).aminmax(dim=0) for shown in maps.values()]
        spans = torch.stack([high - low for low, high in corners]).amax(0).clamp(min=1e-3)
        pictures = [
            Picture(
                f"map-{i}",
                _figure(name, shown, request.words, spans),
                f"The {len(shown.ids)} {which} of {name} on two principal axes",
            )
            for i, (name, shown) in enumerate(maps.items(), 1)
        ]
        return Section(
            "Map of words",
            f"The first two principal axes of the vectors of the {which}, on one scale: 1 is the "
            "root mean square of the words' distances from their mean in all dimensions, so a "
            "point's distance from 0 says how much of a word the plane shows. Labels that would "
            "cover others are left out.",
            pictures,
        )


def _figure(name: str, shown: WordMap, words: Sequence[str], spans: Tensor) -> Figure:
    """One map, with as many labels as there is room, those of earlier words first."""
    from define.report.svg import Canvas

    figure = new_figure(1 + 3.6 * min(1.0, float(spans[1] / spans[0])))
    axes = figure.subplots()
    places = _in_units(shown)
    axes.scatter(*places.T.numpy(), s=6, color="#888888", linewidths=0)
    first, second = (f"{100 * share:.0f} % of the variance" for share in shown.explained)
    axes.set(
        title=shown_name(name), xlabel=f"first axis ({first})", ylabel=f"second axis ({second})"
    )
    low, high = places.aminmax(dim=0)
    ends = ((low + high) / 2)[:, None] + 0.57 * spans[:, None] * torch.tensor([-1.0, 1.0])
    axes.set(xlim=ends[0].tolist(), ylim=ends[1].tolist(), aspect="equal")
    canvas = Canvas(figure)
    figure.draw_without_rendering()  # makes the layout, so that the boxes of labels are known
    _label(axes, canvas.get_renderer(), shown, words)
    return figure


def _label(axes: Axes, renderer: RendererBase, shown: WordMap, words: Sequence[str]) -> None:
    """Labels points in order, beside, above or below, where no label or point is in the way."""
    taken: list[Bbox] = []
    places = _in_units(shown)
    points = axes.transData.transform(places.numpy())
    frame = axes.get_window_extent(renderer)
    for id_, place in zip(shown.ids.tolist(), places.tolist(), strict=True):
        for offset, h, v in (
            ((3, 0), "left", "center"),
            ((-3, 0), "right", "center"),
            ((0, 3), "center", "bottom"),
            ((0, -3), "center", "top"),
        ):
            text = axes.annotate(
                shown_name(words[int(id_)], 18),
                place,
                offset,
                textcoords="offset points",
                ha=h,
                va=v,
                fontsize=8,
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


def _in_units(shown: WordMap) -> Tensor:
    """(words, 2) places, by the root mean square of the words' distances from their mean."""
    share = sum(shown.explained)
    distance = (shown.places.square().sum(-1).mean() / share).sqrt() if share > 0 else 1.0
    return shown.places / distance
