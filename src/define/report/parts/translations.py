"""Sentences of the test and their translations, side by side."""

from collections.abc import Mapping, Sequence
from typing import Any

from define.measures.subject import Readings, Translation
from define.measures.table import MISSING, printable
from define.report.part import Grid, Part, Request, Section

__all__ = ["TranslationsPart"]

_SHOWN = 10
_Found = Sequence[tuple[int, Translation]]  # with their lines, counted from 1


class TranslationsPart(Part[_Found]):
    """Ten sentences, evenly spaced: none is chosen."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        lines = readings.subject.translations
        step = max(1, len(lines) // _SHOWN)
        return [(i + 1, lines[i]) for i in range(0, len(lines), step)][:_SHOWN]

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        return {"translations": [{"line": line, **vars(shown)} for line, shown in found]}

    def section(self, found: Mapping[str, _Found], request: Request) -> Section | None:
        runs = {name: lines for name, lines in found.items() if lines}
        if not runs:
            return None
        given: dict[tuple[int, str, str], dict[str, str]] = {}
        for name, lines in runs.items():
            for line, shown in lines:
                key = line, shown.source, shown.reference
                given.setdefault(key, {})[name] = shown.ours
        rows = [
            tuple(
                map(
                    printable, (str(line), source, reference, *(ours.get(n, MISSING) for n in runs))
                )
            )
            for (line, source, reference), ours in sorted(given.items())
        ]
        return Section(
            "Translations",
            "Sentences of the test, evenly spaced: what they say, how people translate them, and "
            "how each run does.",
            (),
            [Grid(("line", "source", "reference", *runs), rows)],
        )
