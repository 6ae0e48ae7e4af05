"""Words whose vectors point the same way."""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from define.measures.neighbours import nearest_neighbours
from define.measures.subject import Readings
from define.report.part import Grid, Part, Request, Section

__all__ = ["NeighboursPart"]

_NEIGHBOURS = 8
_Found = dict[str, Sequence[tuple[str, float]]]  # words and their cosines, for each chosen word


class NeighboursPart(Part[_Found]):
    """The nearest words of the chosen ones."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        words, chosen = request.words, list(request.chosen)
        cosines, near = nearest_neighbours(readings.rows, torch.tensor(chosen), _NEIGHBOURS)
        return {
            words[id_]: [(words[int(other)], cosine) for other, cosine in zip(*pair, strict=True)]
            for id_, *pair in zip(chosen, near.tolist(), cosines.tolist(), strict=True)
        }

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        return {"neighbours": found}

    def section(self, found: Mapping[str, _Found], request: Request) -> Section:
        rows = [
            (word, name, ", ".join(f"{_isolated(other)} {r:.2f}" for other, r in near[word]))
            for word in dict.fromkeys(request.words[id_] for id_ in request.chosen)
            for name, near in found.items()
        ]
        return Section(
            "Nearest neighbours",
            "The words of largest cosine with each word.",
            (),
            [Grid(("word", "run", "neighbours and cosines"), rows)],
        )


def _isolated(word: str) -> str:
    """A word that may be read from right to left, such that the number behind it stays there."""
    if any(unicodedata.bidirectional(character) in ("R", "AL") for character in word):
        return f"\N{FIRST STRONG ISOLATE}{word}\N{POP DIRECTIONAL ISOLATE}"
    return word
