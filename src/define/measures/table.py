"""Plain-text tables that are Markdown and, at the same time, aligned in a terminal."""

import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["MISSING", "printable", "shorten", "text_table"]

MISSING = "–"  # stands where there is no number


def printable(text: str) -> str:
    r"""A text with control characters and line ends written as in Python: no page can hold them.

    So are marks that turn the direction of what follows.

    Example:
        >>> printable("bell\x07 \u202eabc")
        'bell\\x07 \\u202eabc'
    """
    if text.isprintable():
        return text
    return "".join(c.encode("unicode_escape").decode() if _is_hidden(c) else c for c in text)


def _is_hidden(character: str) -> bool:
    turns = ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI")
    hidden = unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp")
    return hidden or unicodedata.bidirectional(character) in turns


def shorten(name: str, width: int) -> str:
    """Cuts the middle out of a name of more than `width` characters.

    Example:
        >>> shorten("penn-treebank-define-seed-1", 16)
        'penn-tre…-seed-1'

    Raises:
        ValueError: If `width` leaves no character on both sides.
    """
    if width < 3:
        raise ValueError(f"{width=} must be at least 3.")
    if len(name) <= width:
        return name
    tail = (width - 1) // 2
    return f"{name[: width - 1 - tail]}…{name[-tail:]}"


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A GitHub-Markdown table with aligned columns: the first to the left, numbers to the right.

    Example:
        >>> print(text_table(["run", "total M"], [["standard", "3.40"], ["DeFINE", "2.95"]]))
        | run      | total M |
        | :------- | ------: |
        | standard |    3.40 |
        | DeFINE   |    2.95 |

    Raises:
        ValueError: If a row has another number of cells than the header.
    """
    lines = [[_cell(text) for text in texts] for texts in (header, *rows)]
    for cells in lines:
        if len(cells) != len(header):
            raise ValueError(f"{cells=} must have a cell for each column of {header=}.")
    widths = [max(3, *map(len, column)) for column in zip(*lines, strict=True)]
    rule = [
        f":{'-' * (width - 1)}" if i == 0 else f"{'-' * (width - 1)}:"
        for i, width in enumerate(widths)
    ]
    aligned = [
        [cells[0].ljust(widths[0]), *map(str.rjust, cells[1:], widths[1:])] for cells in lines
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (aligned[0], rule, *aligned[1:]))


def _cell(text: str) -> str:
    """A text within a table; isolates stay, which keep numbers behind words of other directions."""
    shown = "".join(c if c in "\u2068\u2069" else printable(c) for c in text)
    return shown.replace("|", r"\|")
