"""Why embeddings work, and what they cost: numbers and text; figures from the numbers."""

from define.analysis.bands import FrequencyBand, frequency_bands, token_nll
from define.analysis.checkpoint import is_checkpoint, read_checkpoint
from define.analysis.compare import comparison_table
from define.analysis.correlation import Correlation, correlation
from define.analysis.cost import Cost, EmbeddingCost, cost_table, embedding_costs
from define.analysis.draw import comparison_figure, draw_comparison
from define.analysis.findings import Findings, Subject, analyze, find_words, some_words
from define.analysis.layers import LayerCorrelation, group_correlation, layer_correlations
from define.analysis.monitor import embedding_scalars
from define.analysis.neighbours import nearest_neighbours
from define.analysis.report import write_report
from define.analysis.rows import held
from define.analysis.similarity import Similarity, similarity
from define.analysis.summary import RunSummary
from define.analysis.table_file import read_table
from define.analysis.word_map import WordMap, word_map

__all__ = [
    "Correlation",
    "Cost",
    "EmbeddingCost",
    "Findings",
    "FrequencyBand",
    "LayerCorrelation",
    "RunSummary",
    "Similarity",
    "Subject",
    "WordMap",
    "analyze",
    "comparison_figure",
    "comparison_table",
    "correlation",
    "cost_table",
    "draw_comparison",
    "embedding_costs",
    "embedding_scalars",
    "find_words",
    "frequency_bands",
    "group_correlation",
    "held",
    "is_checkpoint",
    "layer_correlations",
    "nearest_neighbours",
    "read_checkpoint",
    "read_table",
    "similarity",
    "some_words",
    "token_nll",
    "word_map",
    "write_report",
]
