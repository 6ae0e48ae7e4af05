"""WikiText: the recipes of Tables 1a and 2, and smaller ones for one CPU core."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import nn

from define.data import Text
from define.embedding import AdaptiveEmbedding, DeFINE
from define.recipes.language import lstm_experiment
from define.recipes.models import MakeEmbedding, Tie, transformer_xl
from define.training import Cosine, LanguageModelExperiment, StepDecay, Training

__all__ = [
    "wikitext_2",
    "wikitext_2_transformer_xl",
    "wikitext_103",
    "wikitext_103_lstm",
]

WIKITEXT_103_CUTOFFS = (20_000, 40_000, 200_000)  # of the paper

# Those of `define cutoffs --width 96 --tokens 700` for four bands.
WIKITEXT_2_CUTOFFS = (433, 4282, 13_523)

# Dai et al.: 200,000 steps of 60 x 150 tokens, here 17.4 passes over 103 M tokens; no warm-up.
TRANSFORMER_XL = Training(
    epochs=17,
    batch_size=60,
    length=150,
    learning_rate=0.00025,
    schedule=Cosine(warmup=0.0),
    evaluation_batch_size=10,
)

# Map and output are drawn small where they are tied to the softmax of a Transformer, and there GELU
# is all but linear. ReLU is the same at every scale.
_Unit = partial(DeFINE, max_groups=128, activation=nn.ReLU)


def wikitext_103(
    data: Text,
    map_dim: int = 128,
    cutoffs: Sequence[int] = WIKITEXT_103_CUTOFFS,
    embedding: MakeEmbedding | None = None,
    embedding_dim: int = 384,
    embedding_std: float = 0.02,
    tie: Tie = "map",
    num_layers: int = 16,
    num_heads: int = 10,
    head_dim: int = 41,
    inner_dim: int = 1920,
    memory_length: int = 150,
    evaluation_memory_length: int | None = None,
    clamp_length: int | None = None,
    dropout: float = 0.1,
    attention_dropout: float = 0.0,
    training: Training = TRANSFORMER_XL,
    seed: int = 1,
) -> LanguageModelExperiment:
    """Transformer-XL of Table 2, n = 128 + DeFINE; other rows by map_dim, embedding and widths.

    Args:
        data: The text.
        map_dim: Width n of the tables of the Map; projected to m where it differs.
        cutoffs: First id of each further band of Map and softmax; exact full softmax if empty, for
            another embedding.
        embedding: Makes another embedding than DeFINE on an adaptive Map (k 4096, N 3), from
            vocabulary size and width.
        embedding_dim: Width m of the model.
        embedding_std: Standard deviation of tables and embeddings at initialization. What is
            embedded is then scaled by the square root of m.
        tie: Whether the output reads the Map, what the `embedding` computes, or that in the
            `first-band` of the softmax alone.
        num_layers: Layers.
        num_heads: Attention heads.
        head_dim: Width of a head.
        inner_dim: Width of the hidden layer of the feed-forward part.
        memory_length: Positions kept for the next segment.
        evaluation_memory_length: The same in evaluation, if it is another; every query then sees
            as many positions (Dai et al. take 640 with `clamp_length` 400).
        clamp_length: Distances beyond it are taken for it.
        dropout: Of input, output, positions, feed-forward layers and attention's output.
        attention_dropout: Of the attention weights.
        training: How to train.
        seed: Of initialization and training.
    """
    torch.manual_seed(seed)
    map = partial(AdaptiveEmbedding, cutoffs=cutoffs, map_dim=map_dim, div_value=1.0)
    model = transformer_xl(
        len(data.open().vocabulary),
        embedding or partial(_Unit, map=map, expand_dim=4096),
        embedding_dim=embedding_dim,
        embedding_std=embedding_std,
        cutoffs=cutoffs,
        tie=tie,
        depth=num_layers,
        num_heads=num_heads,
        head_dim=head_dim,
        inner_dim=inner_dim,
        memory_length=memory_length,
        evaluation_memory_length=evaluation_memory_length,
        same_length=evaluation_memory_length is not None,
        clamp_length=clamp_length,
        dropout=dropout,
        attention_dropout=attention_dropout,
    )
    return LanguageModelExperiment(model=model, data=data, training=training, seed=seed)


def wikitext_103_lstm(
    data: Text,
    map_dim: int = 384,
    cutoffs: Sequence[int] = WIKITEXT_103_CUTOFFS,
    embedding: MakeEmbedding | None = None,
    embedding_std: float = 0.1,
    hidden_size: int = 1024,
    num_layers: int = 4,
    dropout: float = 0.1,  # ours: the paper gives none
    training: Training = Training(
        epochs=20,
        batch_size=60,
        length=140,
        optimizer=torch.optim.SGD,
        learning_rate=20.0,
        schedule=StepDecay(milestones=(0.75,), gamma=0.1),
    ),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """LSTM of Table 1a, row R4; other rows by map_dim and embedding.

    Args:
        data: The text.
        map_dim: Width n = m of Map, embedding and last layer.
        cutoffs: First id of each further band of Map and softmax; exact full softmax if empty, for
            another embedding.
        embedding: Makes another embedding than DeFINE on an adaptive Map (k 1024, N 7), from
            vocabulary size and width.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        hidden_size: Width of the other layers.
        num_layers: Layers.
        dropout: Locked dropout before, between and after the layers.
        training: How to train.
        options: Of the recipe `text`.
    """
    map = partial(AdaptiveEmbedding, cutoffs=cutoffs)
    return lstm_experiment(
        data,
        embedding=embedding or partial(_Unit, map=map, depth=7),
        embedding_dim=map_dim,
        embedding_std=embedding_std,
        hidden_size=hidden_size,
        num_layers=num_layers,
        output_size=map_dim,
        dropout=dropout,
        cutoffs=cutoffs,
        training=training,
        **options,
    )


def wikitext_2(
    data: Text,
    embedding_std: float = 0.2,
    cutoffs: Sequence[int] = WIKITEXT_2_CUTOFFS,
    training: Training = Training(epochs=1, learning_rate=0.008, unit_rate=0.1, validations=4),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """A small LSTM with adaptive softmax on WikiText-2, at the scale of one CPU core."""
    return lstm_experiment(
        data, embedding_std=embedding_std, cutoffs=cutoffs, training=training, **options
    )


def wikitext_2_transformer_xl(
    data: Text,
    embedding: MakeEmbedding = lambda num_embeddings, embedding_dim: DeFINE(
        num_embeddings, embedding_dim, map=96, expand_dim=384, depth=3, max_groups=8
    ),
    cutoffs: Sequence[int] = WIKITEXT_2_CUTOFFS,
    embedding_dim: int = 200,
    # A larger one makes the tied output predict the word that was read, at first.
    embedding_std: float = 0.03,
    num_layers: int = 4,
    num_heads: int = 4,
    head_dim: int = 50,
    inner_dim: int = 800,
    memory_length: int = 70,
    training: Training = Training(
        epochs=3, batch_size=10, length=70, learning_rate=0.001, evaluation_batch_size=10
    ),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """A small Transformer-XL on WikiText-2 at the scale of one CPU core, not the paper's model."""
    return wikitext_103(
        data,
        cutoffs=cutoffs,
        embedding=embedding,
        embedding_dim=embedding_dim,
        embedding_std=embedding_std,
        num_layers=num_layers,
        num_heads=num_heads,
        head_dim=head_dim,
        inner_dim=inner_dim,
        memory_length=memory_length,
        training=training,
        **options,
    )
