"""The embeddings that are compared, each with one width that is free to meet a budget."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Literal

import ideas
from torch import Tensor, nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.embedding import BandedEmbedding, HashEmbedding, count_vectors, draw

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
        bias: Whether the output has a bias for each word, which starts at the logarithm of its
            frequency where embeddings start from the text.
        warm: Share of the steps in which the unit stays as it is.
    """

    make: Callable[[Task, int], nn.Module]
    widths: range = range(1, 1024)
    tie: Literal["map", "embedding", "first band"] = "map"
    bias: bool = False
    warm: float = 0.0


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


def adaptive_slow(task: Task, width: int) -> AdaptiveEmbedding:
    """The same, projections at the rate of units."""
    return ideas.SlowAdaptive(
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


def adaptive_narrow(task: Task, width: int) -> AdaptiveEmbedding:
    """Adaptive input of factor 4, the first band `width` wide."""
    return AdaptiveEmbedding(
        task.num_embeddings,
        task.embedding_dim,
        cutoffs=task.cutoffs,
        map_dim=width,
        div_value=4.0,
        std=task.std,
    )


def projected_adaptive(task: Task, width: int) -> ProjectedEmbedding:
    """A matrix over adaptive input: what `define-adaptive` is without its unit."""
    map = AdaptiveEmbedding(task.num_embeddings, width, cutoffs=task.cutoffs, div_value=4.0)
    embedding = ProjectedEmbedding(task.num_embeddings, task.embedding_dim, map=map)
    draw(embedding, task.std)
    return embedding


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


def banded(task: Task, width: int, make: Callable[[int, int, int], nn.Module]) -> BandedEmbedding:
    """Words of the first band have rows of their own; `make` makes the other bands."""
    stops = (*task.cutoffs, task.num_embeddings)
    first = nn.Embedding(stops[0], task.embedding_dim)
    draw(first, task.std)
    narrow = [max(1, width // 4**b) for b in range(len(stops) - 1)]
    bands = zip(pairwise(stops), narrow, strict=True)
    rest = [make(stop - start, task.embedding_dim, n) for (start, stop), n in bands]
    return BandedEmbedding(
        task.num_embeddings, task.embedding_dim, parts=[first, *rest], std=task.std
    )


def coded(task: Task, width: int) -> nn.Module:
    """Rare words have 40 codes beside narrow rows."""
    return banded(task, width, lambda size, _, n: _coded(task, size, n, books=40))


def all_coded(task: Task, width: int) -> nn.Module:
    """All words have 20 codes beside rows that are narrower from band to band."""
    ranges = pairwise((0, *task.cutoffs, task.num_embeddings))
    parts = [
        _coded(task, stop - start, max(1, width // 4**b)) for b, (start, stop) in enumerate(ranges)
    ]
    return BandedEmbedding(task.num_embeddings, task.embedding_dim, parts=parts, std=task.std)


def rare_coded(task: Task, width: int) -> nn.Module:
    """A first band of `width` columns; rarer words have 20 codes beside rows of 8 and 4."""
    stops = (*task.cutoffs, task.num_embeddings)
    first = ProjectedEmbedding(stops[0], task.embedding_dim, map=width)
    draw(first, task.std)
    rest = zip(pairwise(stops), (8, 4), strict=True)
    parts = [first, *(_coded(task, stop - start, own) for (start, stop), own in rest)]
    return BandedEmbedding(task.num_embeddings, task.embedding_dim, parts=parts, std=task.std)


def _coded(task: Task, size: int, width: int, books: int = 20) -> nn.Module:
    return ideas.Coded(
        size, task.embedding_dim, width=width, num_books=books, num_codes=16, std=task.std
    )


def own_width(make: Callable[[Task, int], nn.Module]) -> Callable[[Task, int], nn.Module]:
    """The same for a backbone that reads the columns of the first band alone."""
    return lambda task, width: make(replace(task, embedding_dim=width), width)


def neighbours(task: Task, width: int) -> nn.Module:
    """Rare words are narrow rows and sums of frequent words' rows."""
    first = nn.Embedding(task.cutoffs[0], task.embedding_dim)
    draw(first, task.std)
    made = banded(
        task,
        width,
        lambda size, dim, n: ideas.Neighbours(first, size, dim, width=n, std=task.std),
    )
    made.parts[0] = first
    return made


def banded_projected(task: Task, width: int) -> nn.Module:
    """Words of the first band have rows of their own, all others are projected from one width."""
    first = nn.Embedding(task.cutoffs[0], task.embedding_dim)
    size = task.num_embeddings - task.cutoffs[0]
    parts = [first, ProjectedEmbedding(size, task.embedding_dim, map=width)]
    for part in parts:
        draw(part, task.std)
    return BandedEmbedding(task.num_embeddings, task.embedding_dim, parts=parts, std=task.std)


def light_adaptive(task: Task, width: int) -> DeFINE:
    """DeFINE on an adaptive Map with a light unit: one layer of width n in 8 groups."""
    map = AdaptiveEmbedding(task.num_embeddings, width, cutoffs=task.cutoffs, div_value=4.0)
    embedding = DeFINE(
        task.num_embeddings,
        task.embedding_dim,
        map=map,
        expand_dim=width,
        depth=2,
        max_groups=8,
        norm=nn.LayerNorm,
        start="identity" if width == task.embedding_dim else "projection",
    )
    draw(embedding, task.std)
    return embedding


METHODS = {
    "standard": Method(standard),
    "projected": Method(projected),
    "adaptive": Method(adaptive, range(25, 200)),
    "adaptive-2": Method(adaptive_two, range(8, 201)),
    "adaptive-slow": Method(adaptive_slow, range(25, 200)),
    "projected-adaptive": Method(projected_adaptive, range(64, 257)),
    "define": Method(deep, range(8, 256, 8)),
    "define-both": Method(deep, range(8, 256, 8), tie="embedding"),
    "define-first-band": Method(deep, range(8, 256, 8), tie="first band"),
    "define-adaptive": Method(deep_adaptive, range(64, 257, 8)),
    "define-adaptive-warm": Method(deep_adaptive, range(64, 257, 8), warm=0.3),
    "banded-projected": Method(banded_projected, tie="embedding"),
    "coded": Method(coded, range(1, 200), tie="embedding"),
    "coded-all": Method(all_coded, range(1, 200), tie="embedding"),
    "coded-all-bias": Method(all_coded, range(1, 200), tie="embedding", bias=True),
    "adaptive-narrow": Method(adaptive_narrow, range(16, 201)),
    "adaptive-own": Method(own_width(adaptive_narrow), range(16, 257)),
    "adaptive-own-2": Method(own_width(adaptive_two), range(8, 257)),
    "define-own": Method(own_width(light_adaptive), range(64, 257, 8)),
    "coded-rare": Method(rare_coded, range(1, 200), tie="embedding"),
    "adaptive-bias": Method(adaptive, range(25, 200), bias=True),
    "neighbours": Method(neighbours, range(1, 200), tie="embedding"),
    "hash-both": Method(hashed, tie="embedding"),
    "spelled": Method(spelled, range(8, 200)),
    "classes": Method(classes, range(8, 200)),
    "units": Method(units, range(8, 200)),
    "prototypes": Method(prototypes, range(8, 200)),
}
