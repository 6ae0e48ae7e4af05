"""What embeddings cost: parameters, bytes, multiply-adds, and the vocabulary that pays for them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from math import fsum
from typing import cast

from torch import Tensor, nn

from define.embedding import (
    AdaptiveEmbedding,
    DeFINE,
    Embedding,
    ProjectedEmbedding,
    bands,
    row_cost,
    tied_table,
)
from define.embedding.base import Band
from define.groups import Skip
from define.measures.counting import count_parameters, shapes_only
from define.measures.table import MISSING, text_table
from define.softmax import AdaptiveSoftmax, OutputLayer, TiedSoftmax

__all__ = [
    "Cost",
    "EmbeddingCost",
    "cost_table",
    "embedding_costs",
    "tied_output",
]


@dataclass(frozen=True)
class Cost:
    """Size and work of an embedding, or of an embedding with its output layer.

    Attributes:
        parameters: Number of parameters; those that are tied count once.
        multiply_adds: Of the forward pass. For an embedding, for each distinct token; for an
            output layer, for each token.
        break_even: The smallest vocabulary from which on this has fewer parameters than the
            standard table, tied likewise, of the same width; None if there is none.
    """

    parameters: int
    multiply_adds: float
    break_even: int | None

    @property
    def float32_bytes(self) -> int:
        """Bytes of the parameters in float32."""
        return 4 * self.parameters

    @property
    def bfloat16_bytes(self) -> int:
        """Bytes of the parameters in bfloat16."""
        return 2 * self.parameters

    @property
    def training_bytes(self) -> int:
        """Bytes in float32 of parameters, gradients and the two moments of Adam."""
        return 4 * self.float32_bytes


@dataclass(frozen=True)
class EmbeddingCost:
    """What one embedding method costs.

    Attributes:
        method: Name of the method, with the width of its Map where it has one.
        input: The embedding alone; its multiply-adds.
        tied: The embedding with an output layer tied to its Map; the output layer's
            multiply-adds.
    """

    method: str
    input: Cost
    tied: Cost


# A method as a function of the vocabulary: what to build from which vocabulary on.
_Stages = list[tuple[int, Callable[[int], nn.Module]]]


def embedding_costs(
    num_embeddings: int,
    embedding_dim: int,
    map: Sequence[int] = (64, 128),
    *,
    expand_dim: int = 1024,
    depth: int = 3,
    max_groups: int = 16,
    skip: Skip = "mix",
    shared: bool = False,
    cutoffs: Sequence[int] | None = None,
    embedding: Callable[[int, int], nn.Embedding | Embedding] | None = None,
) -> tuple[EmbeddingCost, ...]:
    """Costs of the standard, adaptive, projected, DeFINE and any other embedding of one size.

    All are counted on modules that are built without memory. Output layers are tied, have no
    biases, and are full softmaxes but for the adaptive embedding's. What depends on the token in
    the adaptive ones is its expectation under Zipf's law: a probability of 1 / rank.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        map: Widths n of the Map tables to try.
        expand_dim: DeFINE's width k at the end of Expand.
        depth: DeFINE's number N of Expand layers.
        max_groups: DeFINE's groups in the first Expand layer.
        skip: How Expand reads the Map again.
        shared: Whether all groups of a layer share one matrix.
        cutoffs: First id of each band but the first of the adaptive embedding, each of a quarter
            of the width before. At 7.5, 15 and 75 % of the vocabulary if omitted, as those of
            WikiText-103, and as many as m allows. With none, there is no adaptive embedding.
        embedding: One more to count, made from vocabulary and width, such as `HashEmbedding` with
            its number of buckets; one that is cut into bands begins at this vocabulary.

    Raises:
        ValueError: If a size is out of range.
    """
    if num_embeddings < 1 or embedding_dim < 1:
        raise ValueError(f"{num_embeddings=} and {embedding_dim=} must be at least 1.")
    if not map:
        raise ValueError(f"{map=} must name at least one width.")
    if expand_dim < max(map):
        raise ValueError(f"{expand_dim=} must be at least the widest of {map=}.")

    units = {
        "expand_dim": expand_dim,
        "depth": depth,
        "max_groups": max_groups,
        "skip": skip,
        "shared": shared,
    }
    if cutoffs is None:
        cutoffs = _default_cutoffs(num_embeddings, embedding_dim)
    stages: dict[str, _Stages] = {
        "standard": [(1, partial(nn.Embedding, embedding_dim=embedding_dim))]
    }
    if cutoffs:
        # A smaller vocabulary has the cutoffs within it; up to the first one, it is one table.
        stages["adaptive"] = [
            (
                cutoff + 1,
                partial(
                    AdaptiveEmbedding, embedding_dim=embedding_dim, cutoffs=cutoffs[: band + 1]
                ),
            )
            for band, cutoff in enumerate(cutoffs)
        ]
    for name, kind, options in (("projected", ProjectedEmbedding, {}), ("DeFINE", DeFINE, units)):
        for width in map:
            make = partial(kind, embedding_dim=embedding_dim, map=width, **options)
            stages[f"{name}, n {width}"] = [(1, make)]
    with shapes_only():
        if embedding is not None:
            made = embedding(num_embeddings, embedding_dim)
            start = 1 if bands(made) is None else num_embeddings
            stages[type(made).__name__] = [(start, lambda size: embedding(size, embedding_dim))]
        return tuple(
            _cost(name, method, num_embeddings, embedding_dim) for name, method in stages.items()
        )


def cost_table(costs: Sequence[EmbeddingCost]) -> str:
    """Two tables as text, at most 100 characters a line: the embeddings alone, and tied."""
    header = ["method", "parameters", "float32 MB", "bfloat16 MB", "Adam MB", "M MAdds", "from V"]

    def table(costs: Sequence[tuple[str, Cost]]) -> str:
        rows = [
            [
                method,
                f"{cost.parameters:,}",
                f"{cost.float32_bytes / 1e6:,.2f}",
                f"{cost.bfloat16_bytes / 1e6:,.2f}",
                f"{cost.training_bytes / 1e6:,.1f}",
                f"{cost.multiply_adds / 1e6:,.3f}",
                MISSING if cost.break_even is None else f"{cost.break_even:,}",
            ]
            for method, cost in costs
        ]
        return text_table(header, rows)

    return f"""\
Embedding alone; multiply-adds (MAdds) for each distinct token of a batch

{table([(cost.method, cost.input) for cost in costs])}

With an output layer tied to its table; multiply-adds of that layer, for each token

{table([(cost.method, cost.tied) for cost in costs])}

Adam MB: parameters, gradients and two moments in float32. from V: the vocabulary from which on
the method has fewer parameters than the standard one. Adaptive MAdds are expected under Zipf's
law. Once trained, every embedding is a plain table of the standard size (to_embedding)."""


def _default_cutoffs(num_embeddings: int, embedding_dim: int) -> tuple[int, ...] | None:
    """Cutoffs at the shares of WikiText-103's; None where vocabulary or width are too small."""
    bands = (embedding_dim.bit_length() - 1) // 2  # tail bands: 4^bands <= m
    cutoffs = tuple(num_embeddings * share // 1000 for share in (75, 150, 750)[:bands])
    increasing = all(a < b for a, b in pairwise((0, *cutoffs, num_embeddings)))
    return cutoffs if cutoffs and increasing else None


def _cost(name: str, stages: _Stages, num_embeddings: int, embedding_dim: int) -> EmbeddingCost:
    embedding = stages[-1][1](num_embeddings)
    head = tied_output(embedding)

    def break_even(tied: bool) -> int | None:
        def count(part: nn.Module) -> int:
            return count_parameters(part, *([tied_output(part)] if tied else []))

        return _break_even(stages, embedding_dim, count)

    parameters = count_parameters(embedding), count_parameters(embedding, head)
    return EmbeddingCost(
        name,
        input=Cost(parameters[0], _input_multiply_adds(embedding), break_even(False)),
        tied=Cost(parameters[1], _output_multiply_adds(embedding, head), break_even(True)),
    )


def tied_output(embedding: nn.Module) -> OutputLayer:
    """The output layer that shares the embedding's table, without biases."""
    if bands(embedding) is not None:
        return AdaptiveSoftmax(embedding)
    width = cast(int, embedding.embedding_dim)
    return TiedSoftmax(tied_table(embedding), width, bias=False)


def _break_even(
    stages: _Stages, embedding_dim: int, count: Callable[[nn.Module], int]
) -> int | None:
    """The smallest V from which on `count` stays below `embedding_dim` · V.

    Within a stage, parameters are affine in V, so two vocabularies tell all.
    """
    best = None  # a stage further on is below from here
    for start, build in reversed(stages):
        first, second = count(build(start)), count(build(start + 1))
        slope = second - first
        fixed = first - slope * start
        if slope >= embedding_dim:
            return best
        own = fixed // (embedding_dim - slope) + 1  # the smallest V of fixed + slope V < m V
        if own > start:
            return own if best is None else min(own, best)
        best = start
    return best


def _linear_multiply_adds(module: nn.Module) -> int:
    """Multiply-adds of one row through every plain linear layer of a module."""
    return sum(m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))


def _input_multiply_adds(embedding: nn.Module) -> float:
    parts = bands(embedding)
    if parts is None:
        return row_cost(embedding)
    return fsum(
        share * (_projection_size(band) + _computed(band)) for band, share in _shares(parts)
    )


def _output_multiply_adds(embedding: nn.Module, head: OutputLayer) -> float:
    own, parts = _linear_multiply_adds(head), bands(embedding)
    if parts is None:
        return own + cast(TiedSoftmax, head).table.numel()
    words = fsum(
        # The first band is computed for every token.
        (share if band.start else 1) * (band.table.numel() + _projection_size(band))
        for band, share in _shares(parts)
    )
    return own + cast(AdaptiveSoftmax, head).cluster_weight.numel() + words


def _shares(parts: Sequence[Band]) -> list[tuple[Band, float]]:
    """Each band with the probability of its words under Zipf's law."""
    weights = [fsum(1 / (i + 1) for i in range(band.start, band.stop)) for band in parts]
    return [(b, weight / fsum(weights)) for b, weight in zip(parts, weights, strict=True)]


def _computed(band: Band) -> int:
    """Multiply-adds of a row of the band's table, where that is not stored."""
    return 0 if isinstance(band.source, Tensor) else row_cost(band.source)


def _projection_size(band: Band) -> int:
    return 0 if band.projection is None else band.projection.numel()
