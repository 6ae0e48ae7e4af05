"""Writes a report of several embeddings: one HTML page, Markdown with pictures, and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.resources import files
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from define.files import check_place, write_text
from define.measures.subject import Readings, Subject
from define.measures.table import printable, text_table
from define.measures.words import some_words
from define.report import parts
from define.report.part import Request, Section
from define.report.style import drawing, lines

if TYPE_CHECKING:
    from define.measures.rows import Table

__all__ = ["write_report"]

_AGAIN = (
    "Of each run. define train RECIPE --config RUN/config.yaml --run NEW trains a run again, with "
    "the recipe that its first line names."
)


def write_report(
    subjects: Sequence[Subject],
    folder: str | Path,
    *,
    chosen: Sequence[int] = (),
    tables: Mapping[str, Table] | None = None,
    command: str = "",
    split: str = "test",
) -> Path:
    """Measures embeddings; writes `report.html`, `report.md` with figures, and `numbers.json`.

    The page needs no other file and no network.

    Args:
        subjects: At least one; all of one vocabulary.
        folder: Where to; made if it is not there.
        chosen: Ids whose neighbours are looked up; some of all frequencies if there are none.
        tables: Other embeddings of the same words, to compare with, by name.
        command: The command that makes this report again, for the reader.
        split: Name of the text that losses are measured on.

    Returns:
        The page's path.

    Raises:
        ValueError: If there are no subjects, two of the same name, or of other words.
    """
    if not subjects:
        raise ValueError("There are no runs to report on.")
    first, names = subjects[0], [subject.name for subject in subjects]
    if len(set(names)) < len(names):
        raise ValueError(f"Runs must have different names, not {names}.")
    for subject in subjects:
        if subject.words != first.words:
            raise ValueError(f"{subject.name} has another vocabulary than {first.name}.")
    folder = Path(folder)
    check_place(folder)
    folder.mkdir(parents=True, exist_ok=True)  # before minutes are spent
    # A run is drawn alike in every figure, whichever runs a figure shows.
    kinds = [subject.summary.kind if subject.summary else subject.name for subject in subjects]
    request = Request(
        tuple(map(printable, first.words)),
        chosen or some_words(first.words, first.counts),
        tables or {},
        split,
        dict(zip(names, lines(kinds), strict=True)),
    )
    found: list[dict[str, Any]] = [{} for _ in parts.PARTS]  # of each part, by subject
    numbers = []
    for subject in subjects:
        readings = Readings(subject)  # with its tables, gone before the next ones
        numbers.append({"name": subject.name})
        for part, results in zip(parts.PARTS, found, strict=True):
            result = results[subject.name] = part.measure(readings, request)
            numbers[-1] |= part.as_json(result, request)
    with drawing():
        said = [part.section(r, request) for part, r in zip(parts.PARTS, found, strict=True)]
        sections = [section for section in said if section is not None]
        figures = _svgs(sections)
    title = f"Analysis of {names[0]}" if len(names) == 1 else f"Analysis of {len(names)} runs"
    content = {
        "title": title,
        "command": command,
        "sections": sections,
        "figures": figures,
        "settings": [(subject.name, subject.settings) for subject in subjects],
        "again": _AGAIN,
    }
    for name, figure in figures.items():
        write_text(folder / f"{name}.svg", figure)
    write_text(folder / "numbers.json", _json(numbers))
    write_text(folder / "report.md", _markdown(content))
    page = folder / "report.html"
    write_text(page, _html(content))
    return page


def _svgs(sections: Sequence[Section]) -> dict[str, str]:
    from define.report.svg import svg

    return {p.name: svg(p.figure, p.description) for s in sections for p in s.pictures}


def _json(numbers: Any) -> str:  # noqa: ANN401
    """JSON in which a number that is not finite is null."""
    return json.dumps(_finite(numbers), indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: Any) -> Any:  # noqa: ANN401
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(item) for item in value]
    return value


def _html(content: Mapping[str, Any]) -> str:
    from jinja2 import Environment, StrictUndefined  # here: an extra, and only reports need it

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("define.report").joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(content)


def _markdown(content: Mapping[str, Any]) -> str:
    parts = [f"# {_escaped(content['title'])}"]
    parts += [_code(content["command"])] if content["command"] else []
    for section in content["sections"]:
        parts += [f"## {_escaped(section.title)}", _escaped(section.text)]
        parts += [f"![{_escaped(p.description)}]({p.name}.svg)" for p in section.pictures]
        for grid in section.grids:
            parts += [_escaped(grid.caption)] if grid.caption else []
            header, *rows = ([_escaped(c) for c in row] for row in (grid.header, *grid.rows))
            parts.append(text_table(header, rows))
    parts += ["## Settings", _escaped(content["again"])]
    for name, text in content["settings"]:
        parts += [f"### {_escaped(name)}", _code(text)]
    return "\n\n".join(parts) + "\n"


def _code(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _escaped(text: str) -> str:
    """Text as Markdown that shows it as it is: words may be `<unk>`, `*`, or a script."""
    text = " ".join(text.replace("&", "&amp;").replace("<", "&lt;").splitlines())
    for mark in "\\`*_[]~#$":
        text = text.replace(mark, f"\\{mark}")
    return text
