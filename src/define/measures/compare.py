"""Several trained runs in one table."""

import os
import re
from collections.abc import Sequence
from math import isfinite
from statistics import mean

from define.measures.summary import RunSummary
from define.measures.table import MISSING, shorten, text_table

__all__ = ["comparison_table", "run_columns"]

_WIDTH = 100  # characters a line, if names allow it
_NAME = 40  # characters of a name, at least


def comparison_table(summaries: Sequence[RunSummary], average_seeds: bool = False) -> str:
    """A table of runs, in the order given: parameters, speed, memory, perplexities and BLEU.

    Args:
        summaries: The runs, at least one.
        average_seeds: Whether runs that differ in the seed alone (same embedding, parameters,
            training tokens and settings) share a row: the mean of each, of memory the largest, and
            for perplexities half the range between the best and the worst seed. Memory and a test
            perplexity stand only where all have one.

    Returns:
        Parameters in millions, tokens/s and peak memory of training, perplexities, and BLEU, and
        the size of compressed models, where a run has one: Markdown and aligned. Where lines would
        be longer than 100 characters, what all names begin with is said below the table; of names
        that are longer than 40 characters all the same, the middle is cut out.

    Raises:
        ValueError: If there are no runs.
    """
    if not summaries:
        raise ValueError("There are no runs to compare.")
    groups: dict[object, list[RunSummary]] = {}
    for i, run in enumerate(summaries):
        groups.setdefault(run.kind if average_seeds else i, []).append(run)

    header, *numbers = run_columns(list(groups.values()))
    taken = sum(max(map(len, column)) + 3 for column in zip(header, *numbers, strict=True))
    names, notes = [_name(runs) for runs in groups.values()], []
    counts = [f" ({len(runs)})" if average_seeds else "" for runs in groups.values()]
    width = _WIDTH - taken - 4 - max(map(len, counts))
    shared = re.sub(r"[^-_. ]*$", "", os.path.commonprefix(names)) if len(names) > 1 else ""
    if shared and max(map(len, names)) > width:
        names = [f"…{name.removeprefix(shared)}" for name in names]
        notes.append(f"…: {shared}")
    names = [shorten(name, max(width, _NAME)) for name in names]
    rows = [(f"{n}{c}", *cells) for n, c, cells in zip(names, counts, numbers, strict=True)]
    if average_seeds:
        notes.append("Over seeds: mean±half the range.")
    first = "run (seeds)" if average_seeds else "run"
    return "\n\n".join([text_table((first, *header), rows), *notes])


def run_columns(groups: Sequence[Sequence[RunSummary]]) -> list[list[str]]:
    """What is said of runs in numbers: a header, then a row for each group of the same parameters.

    BLEU stands there only where a run has it, and so do the megabytes of compressed models.
    """
    columns = {
        f"{part} M": [f"{getattr(runs[0], field) / 1e6:.2f}" for runs in groups]
        for part, field in (
            ("unit", "unit"),
            ("context", "context"),
            ("in-out", "input_output"),
            ("total", "total"),
        )
    }
    if any(runs[0].stored_bytes is not None for runs in groups):
        sizes = (4 * x.total if x.stored_bytes is None else x.stored_bytes for x, *_ in groups)
        columns["MB"] = [f"{size / 1e6:.2f}" for size in sizes]
    columns["tokens/s"] = [f"{mean(x.tokens_per_second for x in runs):.0f}" for runs in groups]
    peaks = ([run.peak_memory or 0 for run in runs] for runs in groups)
    columns["GiB"] = [f"{max(x) / 2**30:.2f}" if all(x) else MISSING for x in peaks]
    for name, measure in (("ppl", "perplexity"), ("BLEU", "bleu")):
        for split in ("valid", "test"):
            found = [[getattr(run, f"{split}_{measure}") for run in runs] for runs in groups]
            columns[f"{split} {name}"] = [_spread(values) for values in found]
    if all(run.test_bleu is None for runs in groups for run in runs):
        del columns["valid BLEU"], columns["test BLEU"]
    return [list(columns), *map(list, zip(*columns.values(), strict=True))]


def _spread(values: Sequence[float | None]) -> str:
    """Mean, and with several values half their range, both to four digits of the mean."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return MISSING
    middle = mean(known)
    if middle >= 1e5:
        digits = ".0e"
    else:
        digits = f".{2 if middle < 100 else 1 if middle < 1000 else 0}f"
    text = format(middle, digits)
    if len(known) > 1 and isfinite(middle):
        text += f"±{format((max(known) - min(known)) / 2, digits)}"
    return text


def _name(runs: Sequence[RunSummary]) -> str:
    """What the names of the runs share, up to the seed's number."""
    name = runs[0].name
    if len(runs) > 1:
        shared = os.path.commonprefix([run.name for run in runs])
        name = re.sub(r"[-_.= ]+(seed|s)?[-_.= ]*\d*$", "", shared) or runs[0].embedding
    return name
