"""DeFINE: deep factorized token embeddings, and the models around them.

Mehta, Koncel-Kedziorski, Rastegari, Hajishirzi, "DeFINE: DEep Factorized INput Token Embeddings
for Neural Sequence Modeling", ICLR 2020.
"""

from define.embedding import AdaptiveEmbedding, DeFINE, Embedding, ProjectedEmbedding
from define.groups import (
    GroupLinear,
    HierarchicalGroupTransform,
    group_schedule,
    width_schedule,
)
from define.models import LSTM, LanguageModel, TransformerXL
from define.softmax import AdaptiveSoftmax, OutputLayer, Softmax, TiedSoftmax

__all__ = [
    "LSTM",
    "AdaptiveEmbedding",
    "AdaptiveSoftmax",
    "DeFINE",
    "Embedding",
    "GroupLinear",
    "HierarchicalGroupTransform",
    "LanguageModel",
    "OutputLayer",
    "ProjectedEmbedding",
    "Softmax",
    "TiedSoftmax",
    "TransformerXL",
    "group_schedule",
    "width_schedule",
]
