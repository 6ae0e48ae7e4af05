"""What recipes take for an embedding, and how they draw it."""

from collections.abc import Callable

from torch import nn

from define.embedding import Embedding

__all__ = ["MakeEmbedding", "draw"]

MakeEmbedding = Callable[[int, int], nn.Embedding | Embedding]
"""Makes an embedding from the size of the vocabulary and the width."""


def draw(embedding: nn.Embedding | Embedding, std: float) -> None:
    """Draws an embedding anew, its table and output with the same deviation whatever its kind."""
    if isinstance(embedding, Embedding):
        embedding.std = std
        embedding.reset_parameters()
    else:
        nn.init.normal_(embedding.weight, std=std)
