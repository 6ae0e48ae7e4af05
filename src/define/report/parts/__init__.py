"""The sections of a report, each in a file of its own."""

from typing import Any

from define.report.part import Part
from define.report.parts.correlation import CorrelationPart
from define.report.parts.depth import DepthPart
from define.report.parts.frequency import FrequencyPart
from define.report.parts.groups import GroupsPart
from define.report.parts.likeness import LikenessPart
from define.report.parts.neighbours import NeighboursPart
from define.report.parts.runs import RunsPart
from define.report.parts.translations import TranslationsPart
from define.report.parts.word_map import WordMapPart

__all__ = ["PARTS"]

PARTS: tuple[Part[Any], ...] = (
    RunsPart(),
    TranslationsPart(),
    CorrelationPart(),
    DepthPart(),
    GroupsPart(),
    FrequencyPart(),
    LikenessPart(),
    NeighboursPart(),
    WordMapPart(),
)
"""In the order of the page."""
