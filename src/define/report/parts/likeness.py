"""How alike an embedding is to others of the same words."""

from collections.abc import Mapping
from typing import Any

from define.measures.similarity import Similarity, similarity
from define.measures.subject import Readings
from define.report.part import Grid, Part, Request, Section, number

__all__ = ["LikenessPart"]

_Found = dict[str, Similarity]


class LikenessPart(Part[_Found]):
    """Linear CKA, and correlation after the best rotation, with each of the request's tables."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        return {name: similarity(readings.rows, table) for name, table in request.tables.items()}

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        return {"similarities": {name: vars(other) for name, other in found.items()}}

    def section(self, found: Mapping[str, _Found], request: Request) -> Section | None:
        rows = [
            (name, other, number(alike.cka), number(alike.rotated_correlation))
            for name, others in found.items()
            for other, alike in others.items()
        ]
        if not rows:
            return None
        return Section(
            "Likeness to other embeddings",
            "Linear CKA (Kornblith et al. 2019) asks whether the same words lie close together; "
            "the mean correlation is that of the other embedding's dimensions with this one's "
            "after the best rotation (orthogonal Procrustes). Both are 1 for embeddings that "
            "differ by rotation, scale and offset alone.",
            (),
            [Grid(("run", "with", "linear CKA", "mean r after rotation"), rows)],
        )
