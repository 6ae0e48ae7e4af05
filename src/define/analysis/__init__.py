"""Comparisons of runs and costs of embeddings: numbers and text; figures from the numbers."""

from define.analysis.compare import comparison_table
from define.analysis.cost import Cost, EmbeddingCost, cost_table, embedding_costs
from define.analysis.draw import comparison_figure, draw_comparison
from define.analysis.summary import RunSummary

__all__ = [
    "Cost",
    "EmbeddingCost",
    "RunSummary",
    "comparison_figure",
    "comparison_table",
    "cost_table",
    "draw_comparison",
    "embedding_costs",
]
