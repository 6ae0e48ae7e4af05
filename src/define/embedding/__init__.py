"""Token embeddings: drop-ins for `torch.nn.Embedding` that need fewer parameters."""

from define.embedding.adaptive import AdaptiveEmbedding
from define.embedding.banded import BandedEmbedding
from define.embedding.base import Band, Embedding, Layer
from define.embedding.counts import count_vectors, start_from_text
from define.embedding.define import DeFINE
from define.embedding.factorized import FactorizedEmbedding
from define.embedding.family import (
    approximate,
    arguments,
    as_bands,
    bands,
    draw,
    is_exact,
    made_rows,
    map_bands,
    parameter_groups,
    resize,
    row_cost,
    set_rows,
    share_rows,
    solve,
    solved_parameters,
    tied_table,
    unit_parameters,
    whole_table,
)
from define.embedding.hashed import HashEmbedding
from define.embedding.projected import ProjectedEmbedding
from define.embedding.rounded import RoundedEmbedding

__all__ = [
    "AdaptiveEmbedding",
    "Band",
    "BandedEmbedding",
    "DeFINE",
    "Embedding",
    "FactorizedEmbedding",
    "HashEmbedding",
    "Layer",
    "ProjectedEmbedding",
    "RoundedEmbedding",
    "approximate",
    "arguments",
    "as_bands",
    "bands",
    "count_vectors",
    "draw",
    "is_exact",
    "made_rows",
    "map_bands",
    "parameter_groups",
    "resize",
    "row_cost",
    "set_rows",
    "share_rows",
    "solve",
    "solved_parameters",
    "start_from_text",
    "tied_table",
    "unit_parameters",
    "whole_table",
]
