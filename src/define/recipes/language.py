"""Language models on text."""

from functools import partial
from pathlib import Path
from typing import Any

import torch

from define.data import PyDocs, Text
from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.recipes.models import MakeEmbedding, lstm
from define.training import LanguageModelExperiment, Training

__all__ = ["pydocs", "text"]


def lstm_experiment(
    data: Text | PyDocs,
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=96, expand_dim=384, depth=3, max_groups=8
    ),
    embedding_dim: int = 200,
    embedding_std: float = 0.2,
    hidden_size: int = 200,
    num_layers: int = 2,
    dropout: float = 0.2,
    training: Training = Training(learning_rate=0.008, unit_rate=0.1),
    start_from: Path | None = None,
    seed: int = 1,
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """An LSTM language model with tied output: the parent of the recipes.

    Args:
        data: The text.
        embedding: Makes the embedding from vocabulary size and width.
        embedding_dim: Width m of the embedding.
        embedding_std: Standard deviation of the embedding's table and output at initialization,
            whatever its kind.
        hidden_size: Width of the LSTM.
        num_layers: Layers of the LSTM.
        dropout: Locked dropout between the layers.
        training: How to train.
        start_from: Folder of a run of the same model whose best weights training begins with.
        seed: Of initialization and training.
        options: Of `define.recipes.models.lstm`.
    """
    torch.manual_seed(seed)
    model = lstm(
        len(data.open().vocabulary),
        embedding,
        embedding_dim=embedding_dim,
        embedding_std=embedding_std,
        hidden_size=hidden_size,
        num_layers=num_layers,
        dropout=dropout,
        **options,
    )
    return LanguageModelExperiment(
        model=model, data=data, training=training, seed=seed, start_from=start_from
    )


def pydocs(
    data: PyDocs = PyDocs(),
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=64, expand_dim=256, depth=3, max_groups=8
    ),
    embedding_dim: int = 128,
    hidden_size: int = 128,
    dropout: float = 0.1,
    training: Training = Training(epochs=2, learning_rate=0.008, unit_rate=0.1),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """A small LSTM on the documentation of the Python that is running: nothing to fetch."""
    return lstm_experiment(
        data,
        embedding=embedding,
        embedding_dim=embedding_dim,
        hidden_size=hidden_size,
        dropout=dropout,
        training=training,
        **options,
    )


def text(
    data: Text,
    embedding: MakeEmbedding | None = None,
    training: Training = Training(learning_rate=0.008, unit_rate=0.1, start_from_text=True),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """A small LSTM on any folder of text, train, valid and test, with what was measured best.

    Args:
        data: The text.
        embedding: Makes another embedding than one matrix on an adaptive Map, from vocabulary
            size and width.
        training: How to train.
        options: Of the other language models.
    """
    make = partial(ProjectedEmbedding, map=AdaptiveEmbedding) if embedding is None else embedding
    return lstm_experiment(data, embedding=make, training=training, **options)
