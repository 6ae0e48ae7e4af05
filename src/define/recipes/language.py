"""Language models on text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from define.data import PyDocs, Text
from define.embedding import DeFINE
from define.recipes.models import MakeEmbedding, Tie, lstm
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
    output_size: int | None = None,
    narrow: bool = False,
    dropout: float = 0.2,
    input_dropout: float | None = None,
    output_dropout: float | None = None,
    weight_dropout: float = 0.0,
    word_dropout: float = 0.0,
    cutoffs: Sequence[int] = (),
    tie: Tie = "map",
    training: Training = Training(learning_rate=0.008, unit_rate=0.1),
    start_from: Path | None = None,
    seed: int = 1,
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
        output_size: Width of its last layer; `hidden_size` if omitted.
        narrow: Whether the last layer is instead as wide as the table that the output is tied to;
            where the two differ, the output projects to the table's width.
        dropout: Locked dropout between the layers.
        input_dropout: Locked dropout before them; as between them if omitted.
        output_dropout: Locked dropout after them; as between them if omitted.
        weight_dropout: Dropout of hidden-to-hidden weights.
        word_dropout: Dropout of whole words from the table, that of the Map with DeFINE.
        cutoffs: First id of each further band of an adaptive softmax; exact full softmax if
            empty.
        tie: Whether the output reads the Map, what the `embedding` computes, or that in the
            `first-band` of the softmax alone.
        training: How to train.
        start_from: Folder of a run of the same model whose best weights training begins with.
        seed: Of initialization and training.
    """
    torch.manual_seed(seed)
    model = lstm(
        len(data.open().vocabulary),
        embedding,
        embedding_dim=embedding_dim,
        embedding_std=embedding_std,
        hidden_size=hidden_size,
        num_layers=num_layers,
        output_size=output_size,
        narrow=narrow,
        dropout=dropout,
        input_dropout=input_dropout,
        output_dropout=output_dropout,
        weight_dropout=weight_dropout,
        word_dropout=word_dropout,
        cutoffs=cutoffs,
        tie=tie,
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


def text(data: Text, **options: Any) -> LanguageModelExperiment:  # noqa: ANN401
    """A small LSTM on any folder of text: train, valid and test."""
    return lstm_experiment(data, **options)
