"""The models of the recipes, for any vocabulary and any embedding."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

from torch import nn

from define.dropout import drop_words
from define.embedding import Embedding, bands, draw, tied_table
from define.embedding.base import table_size
from define.models import LSTM, LanguageModel, TransformerXL
from define.softmax import AdaptiveSoftmax, OutputLayer, TiedSoftmax

__all__ = ["MakeEmbedding", "Tie", "lstm", "transformer_xl"]

MakeEmbedding = Callable[[int, int], nn.Embedding | Embedding]
"""Makes an embedding from the size of the vocabulary and the width."""

Tie = Literal["map", "embedding", "first-band"]
"""What the output reads: the Map (the paper), what the embedding computes, or that in the first
band of an adaptive softmax alone and the Map in the others."""


def transformer_xl(
    num_embeddings: int,
    embedding: MakeEmbedding,
    *,
    embedding_dim: int = 384,
    embedding_std: float = 0.02,
    cutoffs: Sequence[int] = (),
    tie: Tie = "map",
    **options: Any,  # noqa: ANN401
) -> LanguageModel:
    """Transformer-XL with input and output tied (Table 2).

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding: Makes the embedding from V and m.
        embedding_dim: Width m of the model.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        cutoffs: First id of each further band of the softmax, for an embedding of one table.
        tie: What the output reads, see `Tie`.
        options: Of `TransformerXL`.
    """
    module = embedding(num_embeddings, embedding_dim)
    draw(module, embedding_std)
    # Dai et al. scale what they embed, since the tied output wants small tables.
    backbone = TransformerXL(embedding_dim, input_scale=embedding_dim**0.5, **options)
    return LanguageModel(module, backbone, _head(module, embedding_dim, cutoffs, tie, bias=True))


def lstm(
    num_embeddings: int,
    embedding: MakeEmbedding,
    *,
    embedding_dim: int,
    embedding_std: float,
    hidden_size: int,
    num_layers: int,
    output_size: int | None = None,
    narrow: bool = False,
    dropout: float = 0.0,
    input_dropout: float | None = None,
    output_dropout: float | None = None,
    weight_dropout: float = 0.0,
    word_dropout: float = 0.0,
    cutoffs: Sequence[int] = (),
    tie: Tie = "map",
) -> LanguageModel:
    """LSTM with input and output tied: Table 1a, AWD-LSTM.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding: Makes the embedding from V and m.
        embedding_dim: Width m of the embedding.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        hidden_size: Width of the layers.
        num_layers: Number of layers.
        output_size: Width of the last layer; `hidden_size` if omitted.
        narrow: Whether the last layer is instead as wide as the table that the output is tied to;
            where the two differ, the output projects to the table's width.
        dropout: Locked dropout between the layers.
        input_dropout: Locked dropout before them; as between them if omitted.
        output_dropout: Locked dropout after them; as between them if omitted.
        weight_dropout: Dropout of hidden-to-hidden weights.
        word_dropout: Dropout of whole words from the table, that of the Map with DeFINE.
        cutoffs: First id of each further band of an adaptive softmax, for an embedding of one
            table; exact full softmax if empty.
        tie: Whether the output reads the Map, what the `embedding` computes, or that in the
            `first-band` of the softmax alone.
    """
    module = embedding(num_embeddings, embedding_dim)
    draw(module, embedding_std)
    backbone = LSTM(
        module.embedding_dim,  # without Reduce, the unit ends wider
        hidden_size,
        num_layers,
        output_size=table_size(_tied(module, tie))[1] if narrow else output_size,
        dropout=dropout,
        input_dropout=dropout if input_dropout is None else input_dropout,
        output_dropout=dropout if output_dropout is None else output_dropout,
        weight_dropout=weight_dropout,
    )
    head = _head(module, backbone.output_size, cutoffs, tie)
    if word_dropout:
        drop_words(module, word_dropout)
    return LanguageModel(module, backbone, head)


def _tied(embedding: nn.Module, tie: Tie) -> nn.Module:
    return tied_table(embedding) if tie == "map" else embedding


def _head(
    embedding: nn.Module, in_features: int, cutoffs: Sequence[int], tie: Tie, bias: bool = False
) -> OutputLayer:
    first_band_only = tie == "first-band"
    banded = len(bands(tied_table(embedding)) or ()) > 1  # cut already
    if not (banded or cutoffs or first_band_only):
        return TiedSoftmax(_tied(embedding, tie), in_features)
    return AdaptiveSoftmax(
        _tied(embedding, tie),
        in_features,
        None if banded else cutoffs or None,
        bias=bias,
        cluster_bias=bias,
        first_band_only=first_band_only,
    )
