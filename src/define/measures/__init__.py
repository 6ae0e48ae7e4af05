"""Numbers about embeddings and trained runs: why embeddings work, and what they cost."""

from define.measures.bands import (
    BandError,
    FrequencyBand,
    band_errors,
    frequency_bands,
    perplexity_of,
    token_nll,
)
from define.measures.compare import comparison_table
from define.measures.correlation import Correlation, correlation, embedding_scalars
from define.measures.cost import Cost, EmbeddingCost, cost_table, embedding_costs
from define.measures.counting import count_parameters, shapes_only
from define.measures.layers import LayerCorrelation, group_correlation, layer_correlations
from define.measures.neighbours import Neighbours, changed_neighbours, nearest_neighbours
from define.measures.rows import held
from define.measures.similarity import Similarity, similarity
from define.measures.subject import Subject, Translation
from define.measures.summary import RunSummary
from define.measures.table_file import is_checkpoint, read_table
from define.measures.words import WordMap, find_words, some_words, word_map

__all__ = [
    "BandError",
    "Correlation",
    "Cost",
    "EmbeddingCost",
    "FrequencyBand",
    "LayerCorrelation",
    "Neighbours",
    "RunSummary",
    "Similarity",
    "Subject",
    "Translation",
    "WordMap",
    "band_errors",
    "changed_neighbours",
    "comparison_table",
    "correlation",
    "cost_table",
    "count_parameters",
    "embedding_costs",
    "embedding_scalars",
    "frequency_bands",
    "group_correlation",
    "find_words",
    "held",
    "is_checkpoint",
    "layer_correlations",
    "nearest_neighbours",
    "perplexity_of",
    "read_table",
    "shapes_only",
    "similarity",
    "some_words",
    "token_nll",
    "word_map",
]
