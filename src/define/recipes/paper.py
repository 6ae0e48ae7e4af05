"""The models of the paper's tables: their parameters as we count them, beside those printed.

Table 1a (LSTM, WikiText-103), Table 2 (Transformer-XL, WikiText-103), the Penn Treebank and WMT14
results, and the ablations of the appendix, all of Mehta et al. 2020.

Context models and input-output parts come out as printed. The paper's own unit cannot be derived
from its text: g_max is not given, and it prints one configuration as 40.46, 40.73 and 40.89 M. So
DeFINE rows show our unit at the paper's n, k, N and m, without Reduce's path from the Map, at the
power of two for g_max that comes nearest to the printed unit, or to what the printed total leaves
for it. Rows of the ablation that differ in the skip connection or in Reduce share the g_max of
their DeFINE row, so that they differ in one thing alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import groupby
from typing import Any

import torch
from torch import nn

from define.analysis.table import MISSING, text_table
from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.models import LSTM, LanguageModel, TransformerXL
from define.models.language_model import ParameterCounts
from define.softmax import AdaptiveSoftmax, TiedSoftmax

__all__ = [
    "PaperRow",
    "Printed",
    "awd_lstm",
    "lstm",
    "paper_json",
    "paper_rows",
    "paper_table",
    "transformer_xl",
    "translation_counts",
]

_WIKITEXT_103 = 267_735
_CUTOFFS = (20_000, 40_000, 200_000)
_PENN_TREEBANK = 10_000


@dataclass(frozen=True)
class Printed:
    """Parameters in millions as the paper prints them, None where it does not."""

    total: float
    unit: float | None = None
    context: float | None = None
    input_output: float | None = None


@dataclass(frozen=True)
class PaperRow:
    """One model of the paper.

    Attributes:
        table: The paper's table, or experiment.
        name: The row within it.
        paper: What the paper prints.
        ours: What our model of the row has.
        exact: Whether the paper's text determines all counts, so that ours are the printed ones.
        max_groups: Our g_max, for rows with DeFINE (for a GLT, its groups).
        note: What else there is to know.
    """

    table: str
    name: str
    paper: Printed
    ours: ParameterCounts
    exact: bool
    max_groups: int | None = None
    note: str = ""


def lstm(
    map_dim: int,
    *,
    adaptive: bool = True,
    unit: Callable[[nn.Module], DeFINE] | None = None,
) -> LanguageModel:
    """LSTM of Table 1a: four layers of 1024, the last as wide as the Map, to which it is tied.

    Args:
        map_dim: Width n of the Map.
        adaptive: Whether input and output are adaptive, or standard with a bias for each word.
        unit: Makes the DeFINE embedding from the Map; the Map alone is the embedding if omitted.
    """
    map = (
        AdaptiveEmbedding(_WIKITEXT_103, map_dim, cutoffs=_CUTOFFS)
        if adaptive
        else nn.Embedding(_WIKITEXT_103, map_dim)
    )
    embedding = map if unit is None else unit(map)
    backbone = LSTM(int(embedding.embedding_dim), 1024, 4, output_size=map_dim)
    return LanguageModel(
        embedding, backbone, AdaptiveSoftmax(map) if adaptive else TiedSoftmax(map)
    )


def transformer_xl(
    map_dim: int, *, width: int = 384, inner_dim: int = 1920, max_groups: int | None = None
) -> LanguageModel:
    """Transformer-XL of Table 2: 16 layers, 10 heads of 41, all bands of one width.

    Args:
        map_dim: Width n of the tables, projected to `width` where it differs.
        width: Width m of the model.
        inner_dim: Width of the hidden layer of the feed-forward part.
        max_groups: g_max of DeFINE, N = 3 and k = 4096, on the projected vectors; none if omitted.
    """
    map = AdaptiveEmbedding(_WIKITEXT_103, width, cutoffs=_CUTOFFS, map_dim=map_dim, div_value=1)
    embedding = map if max_groups is None else define(map, width, 4096, 3, max_groups=max_groups)
    backbone = TransformerXL(width, 16, num_heads=10, head_dim=41, inner_dim=inner_dim)
    return LanguageModel(embedding, backbone, AdaptiveSoftmax(map, bias=True, cluster_bias=True))


def awd_lstm(max_groups: int | None = None) -> LanguageModel:
    """AWD-LSTM on the Penn Treebank, 400-1150-1150-400; with DeFINE, n = 128 and N = 7.

    Args:
        max_groups: g_max of DeFINE; the standard embedding if omitted.
    """
    if max_groups is None:
        map = embedding = nn.Embedding(_PENN_TREEBANK, 400)
    else:
        map = nn.Embedding(_PENN_TREEBANK, 128)
        embedding = define(map, 400, 1024, 7, max_groups=max_groups)
    backbone = LSTM(400, 1150, 3, output_size=map.embedding_dim)
    return LanguageModel(embedding, backbone, TiedSoftmax(map))


def define(map: nn.Module, embedding_dim: int, expand_dim: int, depth: int, **options: Any) -> DeFINE:  # noqa: ANN401
    """DeFINE as Section 3 has it: Reduce reads the end of Expand alone."""
    num_embeddings = int(map.num_embeddings)
    options = {"depth": depth, "reduce_map": False} | options
    return DeFINE(num_embeddings, embedding_dim, map=map, expand_dim=expand_dim, **options)
