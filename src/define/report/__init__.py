"""Reports on embeddings and trained runs, from their measures: pages, tables and figures."""

from define.report.comparison import comparison_figure, draw_comparison
from define.report.compression import SmallerTable, draw_compression
from define.report.part import Grid, Part, Picture, Request, Section
from define.report.write import write_report

__all__ = [
    "Grid",
    "Part",
    "Picture",
    "Request",
    "Section",
    "SmallerTable",
    "comparison_figure",
    "draw_comparison",
    "draw_compression",
    "write_report",
]
