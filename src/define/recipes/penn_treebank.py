"""AWD-LSTM on Penn Treebank, with any embedding."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from define.data import Text
from define.embedding import DeFINE
from define.recipes.language import lstm_experiment
from define.recipes.models import MakeEmbedding
from define.training import (
    NTASGD,
    AveragedSGD,
    Constant,
    Cosine,
    LanguageModelExperiment,
    Training,
)

__all__ = [
    "penn_treebank",
    "penn_treebank_fast",
    "penn_treebank_finetune",
    "penn_treebank_small",
]

_PUBLISHED = Training(
    epochs=500,
    batch_size=20,
    length=70,
    random_lengths=True,
    optimizer=NTASGD,
    learning_rate=30.0,
    schedule=Constant(),
    activation_regularization=2.0,
    temporal_activation_regularization=1.0,
    clip=0.25,
    evaluation_batch_size=10,
)


def penn_treebank(
    data: Text,
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=128, expand_dim=1024, depth=7, max_groups=128
    ),
    embedding_dim: int = 400,
    # That of the published initialization, uniform in ± 0.1.
    embedding_std: float = 0.058,
    hidden_size: int = 1150,
    num_layers: int = 3,
    output_size: int = 400,
    narrow: bool = True,
    dropout: float = 0.25,
    input_dropout: float = 0.4,
    output_dropout: float = 0.4,
    weight_dropout: float = 0.5,
    word_dropout: float = 0.1,
    training: Training = _PUBLISHED,
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """AWD-LSTM on Penn Treebank as Merity et al. 2018 published it (24 M parameters, a GPU).

    With DeFINE or a projected embedding the last layer is as wide as the narrow table, which the
    output is tied to.
    """
    return lstm_experiment(
        data,
        embedding=embedding,
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
        training=training,
        **options,
    )


def penn_treebank_fast(
    data: Text,
    training: Training = replace(
        _PUBLISHED,
        epochs=80,
        batch_size=40,
        optimizer=torch.optim.AdamW,
        learning_rate=0.003,
        unit_rate=0.1,
        schedule=Cosine(warmup=0.05),
    ),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """The same AWD-LSTM with Adam and a cosine: meant for half an hour of one GPU."""
    return penn_treebank(data, training=training, **options)


def penn_treebank_finetune(
    data: Text,
    start_from: Path | None = None,
    training: Training = replace(_PUBLISHED, optimizer=AveragedSGD, patience=5),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """Goes on from the best weights of an AWD-LSTM run, averaging from the first step on.

    It ends when validation is worse than the best of those more than five validations before.
    """
    if start_from is None:
        raise ValueError(f"{start_from=} must be the folder of a penn-treebank run.")
    return penn_treebank(data, training=training, start_from=start_from, **options)


def penn_treebank_small(
    data: Text,
    output_size: int = 200,
    input_dropout: float = 0.2,
    output_dropout: float = 0.2,
    weight_dropout: float = 0.2,
    word_dropout: float = 0.05,
    cutoffs: Sequence[int] = (1000, 3500),
    training: Training = Training(epochs=3, learning_rate=0.008, unit_rate=0.1, validations=2),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """AWD-LSTM at the scale of one CPU core: 2 layers of 200, milder dropout, adaptive softmax."""
    return lstm_experiment(
        data,
        output_size=output_size,
        input_dropout=input_dropout,
        output_dropout=output_dropout,
        weight_dropout=weight_dropout,
        word_dropout=word_dropout,
        cutoffs=cutoffs,
        training=training,
        **options,
    )
