"""What a section of a report is: a part that measures, and says so in numbers, words and figures.

A new section is a subclass of :class:`Part` in a file of its own, and a line in the list of
:mod:`define.report.parts`. The page, the Markdown and the JSON follow.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from define.measures.subject import Readings
from define.measures.table import MISSING
from define.report.style import Style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from define.measures.rows import Table

__all__ = ["Grid", "Part", "Picture", "Request", "Section", "number"]

T = TypeVar("T")


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column names the rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its file, without ending, and what it shows, in words."""

    name: str
    figure: Figure
    description: str


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and what it is about."""

    title: str
    text: str
    pictures: Sequence[Picture] = ()
    grids: Sequence[Grid] = ()


@dataclass(frozen=True)
class Request:
    """What a report is asked for.

    Attributes:
        words: The V words, in the order of their ids, of all subjects.
        chosen: Ids whose neighbours are looked up.
        tables: Other embeddings of the same words, to compare with, by name.
        split: Name of the text that losses are measured on.
        styles: How each subject is drawn, alike in every figure.
    """

    words: Sequence[str]
    chosen: Sequence[int]
    tables: Mapping[str, Table]
    split: str
    styles: Mapping[str, Style]


class Part(ABC, Generic[T]):
    """One section of a report, from the measure to the figure."""

    @abstractmethod
    def measure(self, readings: Readings, request: Request) -> T:
        """The numbers of one subject; something empty where there is nothing to measure."""

    def as_json(self, found: T, request: Request) -> Mapping[str, Any]:
        """The numbers as `numbers.json` keeps them, by their keys; none by default."""
        return {}

    @abstractmethod
    def section(self, found: Mapping[str, T], request: Request) -> Section | None:
        """What is said of all subjects' numbers, by their names; None if there is nothing."""


def number(value: float) -> str:
    """Three digits behind the point for small numbers, four digits in all for others."""
    if not isfinite(value):
        return MISSING
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:,.{2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0}f}"
