"""The embeddings that are compared, each with one width that is free to meet a budget."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import ideas
from torch import Tensor, nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.embedding import HashEmbedding, count_vectors, draw

__all__ = ["METHODS", "Method", "Task"]


@dataclass(frozen=True)
class Task:
    """What an embedding is made for.

    Args:
        words: The vocabulary, by falling frequency.
        ids: The training text, for methods that start from its statistics.
        embedding_dim: Width m that the backbone reads.
        cutoffs: First id of each band but the first.
        std: Standard deviation of tables and rows at initialization.
    """

    words: tuple[str, ...]
    ids: Tensor
    embedding_dim: int
    cutoffs: tuple[int, ...]
    std: float

    @property
    def num_embeddings(self) -> int:
        return len(self.words)

    @cached_property
    def classes(self) -> Tensor:
        """200 classes of words that stand beside the same words, (V,)."""
        return ideas.clusters(count_vectors(self.ids, self.num_embeddings, 100), 200)


@dataclass(frozen=True)
class Method:
    """One way to embed words.

    Args:
        make: Makes the embedding from a task and the free width.
        widths: Widths to choose from, ascending.
        tie: What the output is tied to: the Map (the paper), what the embedding computes, or that
            for the first band alone, the tails to the Map.
    """

    make: Callable[[Task, int], nn.Module]
    widths: range = range(1, 1024)
    tie: Literal["map", "embedding", "first band"] = "map"


def standard(task: Task, width: int) -> nn.Module:
    """A plain table of `width` columns, which the backbone reads as they are."""
    embedding = nn.Embedding(task.num_embeddings, width)
    draw(embedding, task.std)
    return embedding


def projected(task: Task, width: int) -> nn.Module:
    """A table of `width` columns and one matrix."""
    embedding = ProjectedEmbedding(task.num_embeddings, task.embedding_dim, map=width)
    draw(embedding, task.std)
    return embedding


def adaptive(task: Task, width: int) -> AdaptiveEmbedding:
    """Adaptive input, the first band m wide and the second `width`: factor m / `width`."""
    return AdaptiveEmbedding(
        task.num_embeddings,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        div_value=task.embedding_dim / width,
        std=task.std,
    )


def adaptive_two(task: Task, width: int) -> AdaptiveEmbedding:
    """Adaptive input of factor 2, the first band `width` wide."""
    return AdaptiveEmbedding(
        task.num_embeddings,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        map_dim=width,
        div_value=2.0,
        std=task.std,
    )


def deep(task: Task, width: int) -> DeFINE:
    """DeFINE on one table of `width` columns (Table 1b's shape), k = 7.5 n."""
    embedding = DeFINE(
        task.num_embeddings,
        task.embedding_dim,
        map=width,
        expand_dim=width * 15 // 2,
        depth=3,
        max_groups=8,
    )
    draw(embedding, task.std)
    return embedding


def deep_adaptive(task: Task, width: int) -> DeFINE:
    """DeFINE on an adaptive Map whose first band is `width` wide (R3 of Table 1a), k = 2 n.

    LayerNorm in the unit, and at the start Expand has no share: the best of the starts tried.
    """
    map = AdaptiveEmbedding(task.num_embeddings, width, cutoffs=task.cutoffs, div_value=4.0)
    embedding = DeFINE(
        task.num_embeddings,
        task.embedding_dim,
        map=map,
        expand_dim=2 * width,
        depth=3,
        max_groups=8,
        norm=nn.LayerNorm,
        start="identity" if width == task.embedding_dim else "projection",
    )
    draw(embedding, task.std)
    return embedding


def hashed(task: Task, width: int) -> nn.Module:
    """Two hashed rows for each word, of a shared table of 20 `width` rows."""
    embedding = HashEmbedding(task.num_embeddings, task.embedding_dim, num_buckets=20 * width)
    draw(embedding, task.std)
    return embedding


def spelled(task: Task, width: int) -> nn.Module:
    """Rare words add up what their spelling has in common with others'."""
    return ideas.Spelled(
        task.words, task.embedding_dim, cutoffs=task.cutoffs, width=width, std=task.std
    )


def classes(task: Task, width: int) -> nn.Module:
    """Rare words share a vector with the words that stand beside the same words."""
    return ideas.Classes(
        task.classes,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        width=width,
        std=task.std,
    )


def units(task: Task, width: int) -> nn.Module:
    """A unit of its own for each narrow band."""
    return ideas.BandUnits(
        task.num_embeddings,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        width=width,
        std=task.std,
    )


def prototypes(task: Task, width: int) -> nn.Module:
    """Rows of narrow bands are soft mixtures of learned prototypes."""
    return ideas.BandUnits(
        task.num_embeddings,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        width=width,
        std=task.std,
        mixture=True,
    )


METHODS = {
    "standard": Method(standard),
    "projected": Method(projected),
    "adaptive": Method(adaptive, range(25, 200)),
    "adaptive-2": Method(adaptive_two, range(8, 201)),
    "define": Method(deep, range(8, 256, 8)),
    "define-both": Method(deep, range(8, 256, 8), tie="embedding"),
    "define-first-band": Method(deep, range(8, 256, 8), tie="first band"),
    "define-adaptive": Method(deep_adaptive, range(64, 257, 8)),
    "hash-both": Method(hashed, tie="embedding"),
    "spelled": Method(spelled, range(8, 200)),
    "classes": Method(classes, range(8, 200)),
    "units": Method(units, range(8, 200)),
    "prototypes": Method(prototypes, range(8, 200)),
}
