"""Wikipedia's text with the vocabulary of WikiText-103: 267,735 words, where DeFINE's claim lives.

Perplexities are comparable with one another and not with published ones: the training text is
another.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from define.data import Text
from define.embedding import AdaptiveEmbedding
from define.recipes.language import lstm_experiment
from define.recipes.models import MakeEmbedding
from define.recipes.wikitext import TRANSFORMER_XL, WIKITEXT_103_CUTOFFS, wikitext_103
from define.training import LanguageModelExperiment, Training

__all__ = ["wikipedia_25m", "wikipedia_lstm_small", "wikipedia_transformer_xl_small"]


def wikipedia_25m(
    data: Text,
    training: Training = replace(TRANSFORMER_XL, epochs=8, validations=4),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """Transformer-XL of Table 2 on 25 M tokens, with WikiText-103's vocabulary and evaluation text.

    Args:
        data: The text, with `evaluation` the folder of WikiText-103 and `vocabulary` its dict.txt.
        training: How to train.
        options: Of `wikitext_103`.

    Raises:
        ValueError: If no vocabulary is given.
    """
    _check_vocabulary(data)
    return wikitext_103(data, training=training, **options)


_adaptive = partial(AdaptiveEmbedding, cutoffs=WIKITEXT_103_CUTOFFS)


def wikipedia_lstm_small(
    data: Text,
    embedding: MakeEmbedding | None = None,
    embedding_dim: int = 256,
    embedding_std: float = 0.2,
    hidden_size: int = 768,
    num_layers: int = 2,
    dropout: float = 0.1,
    cutoffs: Sequence[int] = WIKITEXT_103_CUTOFFS,
    training: Training = Training(
        epochs=1, length=70, learning_rate=0.002, unit_rate=0.1, validations=4
    ),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """An LSTM of 4 M parameters under tables of WikiText-103's vocabulary, for one CPU core.

    The rows of Table 1a at m = 256: standard with `torch.nn.Embedding`, R2 as it is, R3 with DeFINE
    on the adaptive Map. `data.tokens` says how much of the text is read: rates were not searched.

    Args:
        data: The text, with `evaluation` the folder of WikiText-103 and `vocabulary` its dict.txt.
        embedding: Makes another embedding than the adaptive one from vocabulary size and width.
        embedding_dim: Width m of the embedding, and of the last layer.
        embedding_std: Standard deviation of the embedding's table and output at initialization.
        hidden_size: Width of the first layer.
        num_layers: Layers of the LSTM.
        dropout: Locked dropout before, between and after the layers.
        cutoffs: First id of each further band of the softmax.
        training: How to train.
        options: Of the recipe `text`.

    Raises:
        ValueError: If no vocabulary is given.
    """
    _check_vocabulary(data)
    return lstm_experiment(
        data,
        embedding=embedding or _adaptive,
        embedding_dim=embedding_dim,
        embedding_std=embedding_std,
        hidden_size=hidden_size,
        num_layers=num_layers,
        output_size=embedding_dim,
        dropout=dropout,
        cutoffs=cutoffs,
        training=training,
        **options,
    )


def wikipedia_transformer_xl_small(
    data: Text,
    embedding: MakeEmbedding | None = None,
    embedding_dim: int = 256,
    embedding_std: float = 0.02,
    num_layers: int = 5,
    num_heads: int = 4,
    head_dim: int = 64,
    inner_dim: int = 1024,
    memory_length: int = 70,
    training: Training = Training(
        epochs=1,
        batch_size=10,
        length=70,
        learning_rate=0.001,
        unit_rate=0.1,
        validations=4,
        evaluation_batch_size=10,
    ),
    **options: Any,  # noqa: ANN401
) -> LanguageModelExperiment:
    """A Transformer-XL of 4 M parameters in the same place as `wikipedia_lstm_small`.

    Args:
        data: See `wikipedia_lstm_small`.
        embedding: Makes another embedding than the adaptive one from vocabulary size and width.
        embedding_dim: Width m of embedding and model.
        embedding_std: Standard deviation of tables and embeddings at initialization.
        num_layers: Number of layers.
        num_heads: Heads of each attention.
        head_dim: Width of a head.
        inner_dim: Width within the feed-forward layers.
        memory_length: Tokens that each layer remembers.
        training: How to train.
        options: Of `wikitext_103`.

    Raises:
        ValueError: If no vocabulary is given.
    """
    _check_vocabulary(data)
    return wikitext_103(
        data,
        embedding=embedding or _adaptive,
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


def _check_vocabulary(data: Text) -> None:
    if data.vocabulary is None:
        raise ValueError(
            f"data.vocabulary={data.vocabulary} must name WikiText-103's dict.txt: perplexities "
            "on its text could not be compared otherwise."
        )
