"""Language models on text."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from define.data import PyDocs, Text
from define.embedding import AdaptiveEmbedding, DeFINE, Embedding
from define.models import LSTM, LanguageModel
from define.recipes.experiment import Experiment
from define.softmax import AdaptiveSoftmax, TiedSoftmax
from define.training import Training

__all__ = ["penn_treebank", "pydocs", "text", "wikitext_2"]

MakeEmbedding = Callable[[int, int], nn.Embedding | Embedding]


def _lstm(
    data: Text | PyDocs,
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=96, expand_dim=384, depth=3, max_groups=8
    ),
    embedding_dim: int = 200,
    embedding_std: float = 0.4,
    hidden_size: int = 200,
    num_layers: int = 2,
    dropout: float = 0.2,
    cutoffs: Sequence[int] = (),
    training: Training = Training(),
    seed: int = 1,
) -> Experiment:
    """An LSTM language model with tied output: the parent of the recipes.

    Args:
        data: The text.
        embedding: Makes the embedding from vocabulary size and width.
        embedding_dim: Width m of the embedding.
        embedding_std: Standard deviation of the embedding's table and output at initialization,
            whatever its kind.
        hidden_size: Width of the LSTM.
        num_layers: Layers of the LSTM.
        dropout: Locked dropout before, between and after the layers.
        cutoffs: First id of each further band of an adaptive softmax; exact full softmax if
            empty.
        training: How to train.
        seed: Of initialization and training.
    """
    torch.manual_seed(seed)
    module = embedding(len(data.open().vocabulary), embedding_dim)
    _draw(module, embedding_std)
    backbone = LSTM(
        embedding_dim,
        hidden_size,
        num_layers,
        dropout=dropout,
        input_dropout=dropout,
        output_dropout=dropout,
    )
    map = getattr(module, "map", module)  # what the output shares its table with
    if isinstance(map, AdaptiveEmbedding) or cutoffs:
        head = AdaptiveSoftmax(map, hidden_size, cutoffs or None)
    else:
        head = TiedSoftmax(map, hidden_size)
    return Experiment(LanguageModel(module, backbone, head), data, training, seed)


def _draw(embedding: nn.Embedding | Embedding, std: float) -> None:
    if isinstance(embedding, Embedding):
        embedding.std = std
        embedding.reset_parameters()
    else:
        nn.init.normal_(embedding.weight, std=std)


def pydocs(
    data: PyDocs = PyDocs(),
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=64, expand_dim=256, depth=3, max_groups=8
    ),
    embedding_dim: int = 128,
    hidden_size: int = 128,
    dropout: float = 0.1,
    training: Training = Training(epochs=2),
    **options: Any,  # noqa: ANN401
) -> Experiment:
    """A small LSTM on the documentation of the Python that is running: nothing to fetch."""
    return _lstm(
        data,
        embedding,
        embedding_dim,
        hidden_size=hidden_size,
        dropout=dropout,
        training=training,
        **options,
    )


def penn_treebank(data: Text, **options: Any) -> Experiment:  # noqa: ANN401
    """A small LSTM on Penn Treebank at the scale of one CPU core, not the paper's model."""
    return _lstm(data, **options)


def wikitext_2(
    data: Text,
    training: Training = Training(epochs=3),
    **options: Any,  # noqa: ANN401
) -> Experiment:
    """A small LSTM on WikiText-2 at the scale of one CPU core, not the paper's model."""
    return _lstm(data, training=training, **options)


def text(data: Text, **options: Any) -> Experiment:  # noqa: ANN401
    """A small LSTM on any folder of text: train, valid and test."""
    return _lstm(data, **options)
