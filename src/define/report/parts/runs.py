"""What each run cost and reached, as training left it."""

from collections.abc import Mapping
from typing import Any

from define.measures.compare import run_columns
from define.measures.subject import Readings
from define.measures.summary import RunSummary
from define.report.comparison import panels
from define.report.part import Grid, Part, Picture, Request, Section

__all__ = ["RunsPart"]


class RunsPart(Part[RunSummary | None]):
    """Parameters, speed, memory, perplexities and BLEU."""

    def measure(self, readings: Readings, request: Request) -> RunSummary | None:
        return readings.subject.summary

    def as_json(self, found: RunSummary | None, request: Request) -> Mapping[str, Any]:
        return {"summary": None if found is None else vars(found)}

    def section(self, found: Mapping[str, RunSummary | None], request: Request) -> Section | None:
        # A run of translation has an embedding for each language, and one summary.
        runs = {run.name: (run, request.styles[name]) for name, run in found.items() if run}
        if not runs:
            return None
        summaries, styles = zip(*runs.values(), strict=True)
        pictures = [
            Picture(panel.name, panel.figure(summaries, styles), panel.title)
            for panel in panels(summaries)
        ]
        header, *rows = run_columns([[run] for run in summaries])
        rows = [(x.name, x.embedding, *cells) for x, cells in zip(summaries, rows, strict=True)]
        return Section(
            "Runs",
            "Parameters are in millions (M): of the embedding's unit, of the context model, and of "
            "the tables of input and output; ppl is perplexity, tokens/s the speed of training, "
            "GiB its peak of memory. Where runs differ in the seed alone, a bar joins the best "
            "and the worst of them; axes do not begin at 0.",
            pictures,
            [Grid(("run", "embedding", *header), rows)],
        )
