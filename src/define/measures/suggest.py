"""Which embedding to take for a language model, from what was measured."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2
from textwrap import fill
from typing import Any, Literal

from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.measures.cost import tied_output
from define.measures.counting import count_parameters, shapes_only
from define.measures.measured import COMPUTED, MEASURED, METHODS, START, Comparison, Result
from define.measures.table import MISSING, text_table

__all__ = ["Advice", "Suggestion", "suggest"]

_STEP = 8  # of widths
_LEVEL = 0.01  # differences in perplexity that count as none
_SHARE = 0.7  # a result holds for parameters up to 2^0.7 = 1.6 times as many or as few
# A start from the text was measured to help from so many tokens for each word on, or in all.
_START, _ENOUGH = 20, 1_000_000
_MANY = 30_000  # words from which on rows computed from an adaptive Map were measured to gain


@dataclass(frozen=True)
class Suggestion:
    """One embedding for a vocabulary.

    Attributes:
        method: "standard", "adaptive", "projected" or "DeFINE".
        code: How it is made.
        parameters: Its own and those of the output layer that is tied to it.
        share: They over those of a standard table.
        loss: Perplexity in the nearest comparison over the best there, minus 1; None if it was not
            measured there with about as many parameters.
    """

    method: str
    code: str
    parameters: int
    share: float
    loss: float | None


@dataclass(frozen=True)
class Advice:
    """Embeddings, the one to take first, and the comparison that says so; as text, all of it.

    Attributes:
        suggestions: The embeddings.
        comparison: The nearest that was measured, if any is near.
        start: Whether a start from the training text was measured to help.
        computed: Whether rows computed from an adaptive Map were ahead of it, with that start.
    """

    suggestions: tuple[Suggestion, ...]
    comparison: Comparison | None
    start: bool
    computed: bool = False

    def __str__(self) -> str:
        first, *others = self.suggestions
        rows = [
            (
                x.method,
                f"{x.parameters:,}",
                f"{100 * x.share:.0f} %",
                MISSING if x.loss is None else f"{100 * x.loss:+.1f} %",
            )
            for x in self.suggestions
        ]
        table = text_table(("embedding", "parameters", "of standard", "perplexity"), rows)
        near = self.comparison
        if near is None or first.loss is None:
            head, source = "Nothing was measured at this size. The smallest is", ""
        else:
            head = "Take"
            source = (
                f"Perplexity is that over the best in {near.model}: {near.tokens_per_word:,.0f} "
                f'training tokens for each word ("{near.section}", docs/log.md). Differences below '
                "1 % are level: the smaller one is first. "
            )
        parts = [source + "Parameters are those of embedding and tied output layer."]
        if self.start:
            parts.append(
                "Let it start from its training text (--training.start_from_text true), in an LSTM "
                f'7 to 19 % of perplexity ("{START}").'
            )
        if self.computed:
            parts.append(
                "With so many words a row that is computed from an adaptive Map was 2 to 3 % ahead "
                "of adaptive input of the same size, both from the text, and one matrix is enough: "
                "ProjectedEmbedding(V, m, map=AdaptiveEmbedding(V, n, cutoffs=...)), n a little "
                f'below m ("{COMPUTED}").'
            )
        parts.append("For a table that is trained already, see define compress.")
        text = [f"{head} {first.code}", table, *(fill(part, 100) for part in parts)]
        codes = "\n".join(f"  {x.code}" for x in others)
        return "\n\n".join([*text, *([f"The others:\n{codes}"] if others else [])])


def suggest(
    num_embeddings: int,
    embedding_dim: int,
    tokens: int,
    parameters: int | None = None,
    backbone: Literal["lstm", "transformer"] = "lstm",
) -> Advice:
    """Suggests an embedding for a language model, by the nearest of what was measured.

    Nearest in training tokens for each word of the vocabulary and in parameters, see
    :mod:`define.measures.measured`. Of those within 1 % of the best, the smallest is first.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the model.
        tokens: Training tokens that the model will see: those of the text times epochs.
        parameters: The most of embedding and tied output layer; the widths that were measured if
            omitted.
        backbone: Kind of the context model.

    Raises:
        ValueError: If a size is out of range, or no embedding is as small as `parameters`.
    """
    if min(num_embeddings, tokens) < 1 or embedding_dim < _STEP:
        sizes = f"{num_embeddings=} and {tokens=} must be at least 1"
        raise ValueError(f"{sizes}, {embedding_dim=} at least {_STEP}.")
    whole = num_embeddings * embedding_dim
    share = None if parameters is None else parameters / whole
    near = _nearest(backbone, num_embeddings, tokens, share)
    found = []
    with shapes_only():
        for method in _methods(num_embeddings, embedding_dim):
            width = _width(method, near, parameters)
            if width is not None:
                count = method.size(width)
                loss = _loss(method.name, near, count / whole)
                suggestion = Suggestion(method.name, method.code(width), count, count / whole, loss)
                found.append(suggestion)
    if not found:
        raise ValueError(f"No embedding of {num_embeddings=} is as small as {parameters=}.")
    best = min(inf if x.loss is None else x.loss for x in found)

    def order(x: Suggestion) -> tuple[float, float]:
        loss = inf if x.loss is None else x.loss
        return (0 if loss <= best + _LEVEL else loss, x.parameters)

    start = backbone == "lstm" and tokens >= min(_START * num_embeddings, _ENOUGH)
    computed = start and num_embeddings >= _MANY
    return Advice(tuple(sorted(found, key=order)), near, start, computed)


def _nearest(
    backbone: str, num_embeddings: int, tokens: int, share: float | None
) -> Comparison | None:
    """The comparison to go by; None if none has about so many parameters.

    Twice the training tokens for each word are one step away, and half the parameters as far as 16
    times the tokens: what a narrow table costs, training mends little. Twice the vocabulary is half
    a step, and so is a method that was not measured there: two steps where parameters are limited,
    since then methods are to be compared at equal ones.
    """
    lack = 0.5 if share is None else 2.0
    found = []
    for i, comparison in enumerate(MEASURED):
        results = comparison.results
        if share is not None:
            results = [r for r in results if _far(r, share) <= _SHARE]
        if comparison.backbone == backbone and results:
            far = 0.0 if share is None else min(_far(r, share) for r in results)
            training = abs(log2(tokens / num_embeddings / comparison.tokens_per_word))
            words = abs(log2(num_embeddings / comparison.num_embeddings))
            missing = len(METHODS) - len({r.method for r in results})
            found.append((4 * far + training + words / 2 + lack * missing, i, comparison))
    return min(found)[2] if found else None


def _far(result: Result, share: float) -> float:
    return abs(log2(share / result.share))


def _loss(method: str, near: Comparison | None, share: float) -> float | None:
    results = () if near is None else near.results
    known = [r for r in results if r.method == method and _far(r, share) <= _SHARE]
    if not known:
        return None
    result = min(known, key=lambda r: _far(r, share))
    return result.perplexity / min(r.perplexity for r in results) - 1


@dataclass(frozen=True)
class _Method:
    """An embedding with one width that is free."""

    name: str
    kind: type[nn.Module]
    arguments: Callable[[int], dict[str, Any]]  # of a width, V and m among them
    widths: Sequence[int]

    def size(self, width: int) -> int:
        embedding = self.kind(**self.arguments(width))
        return count_parameters(embedding, tied_output(embedding))

    def code(self, width: int) -> str:
        options = self.arguments(width)
        sizes = [f"{options.pop('num_embeddings'):_}", str(options.pop("embedding_dim"))]
        shown = [*sizes, *(f"{name}={value!r}" for name, value in options.items())]
        return f"{self.kind.__name__}({', '.join(shown)})"


def _methods(num_embeddings: int, embedding_dim: int) -> Iterator[_Method]:
    sizes = {"num_embeddings": num_embeddings, "embedding_dim": embedding_dim}
    widths = range(_STEP, embedding_dim + 1, _STEP)
    whole = sorted({*widths, embedding_dim})
    # Narrower than the model, which reads rows as they are.
    yield _Method("standard", nn.Embedding, lambda n: {**sizes, "embedding_dim": n}, whole)
    cutoffs = (num_embeddings // 10, num_embeddings * 35 // 100)  # as was measured
    bands = [n for n in whole if n >= 4 ** len(cutoffs)]

    def adaptive(n: int) -> dict[str, Any]:
        narrow = {} if n == embedding_dim else {"map_dim": n}
        return {**sizes, "cutoffs": cutoffs, **narrow}

    if bands and 0 < cutoffs[0] < cutoffs[1]:
        yield _Method("adaptive", AdaptiveEmbedding, adaptive, bands)
    yield _Method("projected", ProjectedEmbedding, lambda n: {**sizes, "map": n}, widths)

    def unit(n: int) -> dict[str, Any]:  # of the shape that was measured
        return {**sizes, "map": n, "expand_dim": 4 * n, "depth": 3, "max_groups": 8}

    yield _Method("DeFINE", DeFINE, unit, widths)


def _width(method: _Method, near: Comparison | None, parameters: int | None) -> int | None:
    """The width to take, or None where not even the narrowest is small enough."""
    if parameters is not None:
        fitting = bisect_right(method.widths, parameters, key=method.size)
        return method.widths[fitting - 1] if fitting else None
    there = [] if near is None else [r for r in near.results if r.method == method.name]
    anywhere = [r for c in MEASURED for r in c.results if r.method == method.name]
    wanted = max(r.width for r in there or anywhere) * method.widths[-1]
    return min(method.widths, key=lambda width: abs(width - wanted))
