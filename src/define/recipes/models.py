"""The models of Tables 1a and 2, for any vocabulary and any embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, Embedding
from define.groups import Skip
from define.models import LSTM, LanguageModel, TransformerXL
from define.recipes.embeddings import MakeEmbedding, draw
from define.softmax import AdaptiveSoftmax, OutputLayer, TiedSoftmax

__all__ = ["Unit", "lstm", "transformer_xl"]


@dataclass(frozen=True)
class Unit:
    """Puts DeFINE on a Map of any kind; see `DeFINE` for what the fields mean.

    Raises:
        ValueError: When called, if a size does not fit.
    """

    expand_dim: int = 1024
    depth: int = 3
    max_groups: int = 16
    groups: Sequence[int] | None = None
    skip: Skip = "mix"
    shuffle: bool = False
    reduce: bool = True
    reduce_map: bool = True
    # Map and output are drawn small where they are tied to the softmax of a Transformer, and there
    # GELU is all but linear. ReLU is the same at every scale.
    activation: type[nn.Module] = nn.ReLU
    dropout: float = 0.0

    def __call__(self, map: nn.Embedding | Embedding, embedding_dim: int) -> DeFINE:
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return DeFINE(map.num_embeddings, embedding_dim, map=map, **options)


def transformer_xl(
    num_embeddings: int,
    embedding: MakeEmbedding,
    unit: Callable[[nn.Embedding | Embedding, int], DeFINE] | None = None,
    *,
    embedding_dim: int = 384,
    embedding_std: float = 0.02,
    cutoffs: Sequence[int] = (),
    **options: Any,  # noqa: ANN401
) -> LanguageModel:
    """Transformer-XL with input and output tied (Table 2).

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding: Makes the embedding from V and m, or what `unit` takes for its Map.
        unit: Puts DeFINE on it.
        embedding_dim: Width m of the model.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        cutoffs: First id of each further band of the softmax, for an embedding of one table.
        options: Of `TransformerXL`.
    """
    module = embedding(num_embeddings, embedding_dim)
    module = module if unit is None else unit(module, embedding_dim)
    draw(module, embedding_std)
    # Dai et al. scale what they embed, since the tied output wants small tables.
    backbone = TransformerXL(embedding_dim, input_scale=embedding_dim**0.5, **options)
    return LanguageModel(module, backbone, _head(module, embedding_dim, cutoffs, bias=True))


def lstm(
    num_embeddings: int,
    embedding: MakeEmbedding,
    unit: Callable[[nn.Embedding | Embedding, int], DeFINE] | None = None,
    *,
    embedding_dim: int = 256,
    embedding_std: float = 0.1,
    cutoffs: Sequence[int] = (),
    hidden_size: int = 1024,
    num_layers: int = 4,
    dropout: float = 0.0,
) -> LanguageModel:
    """LSTM whose last layer is as wide as the table that its output is tied to (Table 1a).

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding: Makes the embedding from V and m, or what `unit` takes for its Map.
        unit: Puts DeFINE on it.
        embedding_dim: Width of Map, embedding and last layer: n = m.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        cutoffs: First id of each further band of the softmax, for an embedding of one table.
        hidden_size: Width of the other layers.
        num_layers: Number of layers.
        dropout: Locked dropout before, between and after the layers.
    """
    module = embedding(num_embeddings, embedding_dim)
    module = module if unit is None else unit(module, embedding_dim)
    draw(module, embedding_std)
    backbone = LSTM(
        module.embedding_dim,  # without Reduce, the unit ends wider
        hidden_size,
        num_layers,
        output_size=embedding_dim,
        dropout=dropout,
        input_dropout=dropout,
        output_dropout=dropout,
    )
    return LanguageModel(module, backbone, _head(module, embedding_dim, cutoffs, bias=False))


def _head(
    embedding: nn.Module, in_features: int, cutoffs: Sequence[int], bias: bool
) -> OutputLayer:
    map = getattr(embedding, "map", embedding)  # what the output shares its tables with
    if isinstance(map, AdaptiveEmbedding):
        return AdaptiveSoftmax(map, in_features, bias=bias, cluster_bias=bias)
    if cutoffs:
        return AdaptiveSoftmax(map, in_features, cutoffs, bias=bias, cluster_bias=bias)
    return TiedSoftmax(map, in_features)
