"""What recipes take for an embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from define.embedding import DeFINE, Embedding
from define.groups import Skip

__all__ = ["MakeEmbedding", "Unit"]

MakeEmbedding = Callable[[int, int], nn.Embedding | Embedding]
"""Makes an embedding from the size of the vocabulary and the width."""


@dataclass(frozen=True)
class Unit:
    """DeFINE on a Map of any kind; see `DeFINE` for what the fields mean.

    Raises:
        ValueError: When an embedding is made, if a size does not fit.
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

    def on(self, map: MakeEmbedding) -> MakeEmbedding:
        """Makes a DeFINE whose Map is made by `map`."""
        options = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return lambda num_embeddings, embedding_dim: DeFINE(
            num_embeddings, embedding_dim, map=map(num_embeddings, embedding_dim), **options
        )
