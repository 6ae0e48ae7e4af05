"""Writes a report of several runs: one HTML page, Markdown with pictures, and JSON."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from define.measures.table import text_table
from define.report.findings import Findings, findings_json
from define.report.sections import Section, report_sections
from define.report.style import png

__all__ = ["write_report"]

_AGAIN = (
    "Of each run. `define train RECIPE --config RUN/config.yaml --run NEW` trains a run again, "
    "with the recipe that its first line names."
)


def write_report(
    findings: Sequence[Findings],
    words: Sequence[str],
    folder: str | Path,
    command: str = "",
    split: str = "test",
) -> Path:
    """Writes `report.html`, `report.md` with its pictures, and `numbers.json` into a folder.

    The page needs no other file and no network.

    Args:
        findings: Of each run, at least one; all of one vocabulary.
        words: The V words, in the order of their ids.
        folder: Where to; made if it is not there.
        command: The command that makes this report again, for the reader.
        split: Name of the text that perplexity by frequency was measured on.

    Returns:
        The page's path.

    Raises:
        ValueError: If there are no runs, or two of the same name.
    """
    names = [run.name for run in findings]
    if len(set(names)) < len(names):
        raise ValueError(f"Runs must have different names, not {names}.")
    sections = report_sections(findings, words, split)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    pictures = {p.name: png(p.figure) for section in sections for p in section.pictures}
    for name, content in pictures.items():
        (folder / f"{name}.png").write_bytes(content)
    title = f"Analysis of {names[0]}" if len(names) == 1 else f"Analysis of {len(names)} runs"
    settings = [(run.name, run.settings) for run in findings]
    (folder / "numbers.json").write_text(findings_json(findings, words), "utf-8")
    (folder / "report.md").write_text(_markdown(title, command, sections, settings), "utf-8")
    page = folder / "report.html"
    page.write_text(_html(title, command, sections, pictures, settings), "utf-8")
    return page


def _html(
    title: str,
    command: str,
    sections: Sequence[Section],
    pictures: dict[str, bytes],
    settings: Sequence[tuple[str, str]],
) -> str:
    from jinja2 import Environment, StrictUndefined  # here: an extra, and only reports need it

    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    template = files("define.report").joinpath("page.html.jinja").read_text("utf-8")
    return environment.from_string(template).render(
        title=title,
        command=command,
        sections=sections,
        pictures={name: b64encode(content).decode() for name, content in pictures.items()},
        settings=settings,
        again=_AGAIN.replace("`", ""),
    )


def _markdown(
    title: str, command: str, sections: Sequence[Section], settings: Sequence[tuple[str, str]]
) -> str:
    parts = [f"# {title}"]
    if command:
        parts.append(f"    {command}")
    for section in sections:
        parts += [f"## {section.title}", section.text]
        parts += [f"![{p.description}]({p.name}.png)" for p in section.pictures]
        for grid in section.grids:
            parts += [grid.caption] if grid.caption else []
            parts.append(text_table(grid.header, grid.rows))
    parts += ["## Settings", _AGAIN]
    for name, text in settings:
        indented = "\n".join(f"    {line}" for line in text.splitlines())
        parts += [f"### {name}", indented]
    return "\n\n".join(parts) + "\n"
