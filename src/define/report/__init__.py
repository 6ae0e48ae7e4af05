"""Reports on embeddings and trained runs, from their measures: pages, tables and figures."""

from define.report.checkpoint import is_checkpoint, read_checkpoint
from define.report.draw import comparison_figure, draw_comparison
from define.report.findings import Findings, Subject, analyze, find_words, some_words
from define.report.report import write_report

__all__ = [
    "Findings",
    "Subject",
    "analyze",
    "comparison_figure",
    "draw_comparison",
    "find_words",
    "is_checkpoint",
    "read_checkpoint",
    "some_words",
    "write_report",
]
