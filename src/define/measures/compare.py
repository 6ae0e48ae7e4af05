"""Several trained runs in one table."""

import os
import re
from collections.abc import Sequence
from statistics import mean

from define.measures.summary import RunSummary
from define.measures.table import MISSING, shorten, text_table

__all__ = ["comparison_table"]

_WIDTH = 100  # characters a line
_HEADER = (
    *("unit M", "context M", "in-out M", "total M"),
    *("tokens/s", "GiB", "valid ppl", "test ppl"),
)


def comparison_table(summaries: Sequence[RunSummary], average_seeds: bool = False) -> str:
    """A table of runs, in the order given: parameters, speed, memory and perplexities.

    Args:
        summaries: The runs, at least one.
        average_seeds: Whether runs that differ in the seed alone (same embedding, parameters,
            training tokens and settings) share a row: the mean of each, of memory the largest, and
            for perplexities half the range between the best and the worst seed. Memory and a test
            perplexity stand only where all have one.

    Returns:
        Parameters in millions, tokens/s and peak memory of training, perplexities: Markdown and
        aligned, at most 100 characters a line for perplexities below a million. Longer names lose
        their middle.

    Raises:
        ValueError: If there are no runs.
    """
    if not summaries:
        raise ValueError("There are no runs to compare.")
    groups: dict[object, list[RunSummary]] = {}
    for i, run in enumerate(summaries):
        groups.setdefault(run.kind if average_seeds else i, []).append(run)

    numbers = [_numbers(runs) for runs in groups.values()]
    taken = sum(max(map(len, column)) + 3 for column in zip(_HEADER, *numbers, strict=True))
    width = max(_WIDTH - taken - 4, 11)
    names = [_name(runs, width, average_seeds) for runs in groups.values()]
    header = ("run (seeds)" if average_seeds else "run", *_HEADER)
    rows = [(name, *cells) for name, cells in zip(names, numbers, strict=True)]
    text = text_table(header, rows)
    if average_seeds:
        text += "\n\nOver seeds: mean±half the range."
    return text


def _numbers(runs: Sequence[RunSummary]) -> list[str]:
    """The cells of a row: all runs have the same parameters."""
    run = runs[0]
    sizes = (run.unit, run.context, run.input_output, run.total)
    peaks = [run.peak_memory for run in runs if run.peak_memory is not None]
    tests = [run.test_perplexity for run in runs if run.test_perplexity is not None]
    return [
        *(f"{size / 1e6:.2f}" for size in sizes),
        f"{mean(run.tokens_per_second for run in runs):.0f}",
        MISSING if len(peaks) < len(runs) else f"{max(peaks) / 2**30:.2f}",
        _spread([run.valid_perplexity for run in runs]),
        _spread(tests) if len(tests) == len(runs) else MISSING,
    ]


def _spread(perplexities: Sequence[float]) -> str:
    """Mean, and with several values half their range, both to four digits of the mean."""
    middle = mean(perplexities)
    if middle >= 1e5:
        digits = ".0e"
    else:
        digits = f".{2 if middle < 100 else 1 if middle < 1000 else 0}f"
    text = format(middle, digits)
    if len(perplexities) > 1:
        text += f"±{format((max(perplexities) - min(perplexities)) / 2, digits)}"
    return text


def _name(runs: Sequence[RunSummary], width: int, average_seeds: bool) -> str:
    """What the names of the runs share, up to the seed's number, and how many runs there are."""
    name = runs[0].name
    if len(runs) > 1:
        shared = os.path.commonprefix([run.name for run in runs])
        name = re.sub(r"[-_.= ]+(seed|s)?[-_.= ]*\d*$", "", shared) or runs[0].embedding
    count = f" ({len(runs)})" if average_seeds else ""
    return shorten(name, width - len(count)) + count
