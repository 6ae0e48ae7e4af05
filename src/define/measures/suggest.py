"""Which embedding to take for a language model, from what was measured."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, log2
from textwrap import fill
from typing import Any, Literal

from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.embedding.tables import usual_cutoffs
from define.measures.cost import tied_output
from define.measures.counting import count_parameters, shapes_only
from define.measures.measured import MEASURED, METHODS, START, Comparison, Result
from define.measures.table import MISSING, text_table

__all__ = ["Advice", "Suggestion", "suggest"]

_STEP = 8  # of widths
_LEVEL = 0.01  # differences in perplexity that count as none
_ALIKE = 1.05  # and factors of parameters
_SHARE = 0.7  # a result holds for parameters up to 2^0.7 = 1.6 times as many or as few
# A start from the text was measured to help from so many tokens for each word on, or in all.
_START, _ENOUGH = 20, 1_000_000
# Rows computed from an adaptive Map were measured to gain from so many tokens on, or with so many
# words and a start from the text.
_LONG, _MANY = 5_000_000, 30_000


@dataclass(frozen=True)
class Suggestion:
    """One embedding for a vocabulary.

    Attributes:
        method: Of :data:`define.measures.measured.METHODS`.
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
        computed: Whether rows computed from an adaptive Map were ahead of it so far on.
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
            head = (
                "Nothing was measured at this size: none is known to be better. The smallest, of "
                f"widths in steps of {_STEP}, is"
            )
            source = ""
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
                "Let it start from its training text (--training.start_from_text true): in an LSTM "
                "3 to 25 % of perplexity, in a Transformer-XL 7 %, the more the larger the "
                f'vocabulary and the shorter the training ("{START}").'
            )
        if self.computed and not first.method.endswith(", adaptive"):
            parts.append(
                "With millions of tokens, or from its text with many words, a row that is computed "
                "from an adaptive Map was ahead of adaptive input of the same size with Adam, by 2 "
                "to 7 % in LSTMs and by up to 2 % in Transformer-XL, and one matrix is enough; "
                "with SGD it was 7 to 24 % behind."
            )
        parts.append("For a table that is trained already, see define compress.")
        text = [_wrapped(f"{head} {first.code}"), table, *(fill(part, 100) for part in parts)]
        if others:
            text.append("The others:\n" + "\n".join(_wrapped(f"  {x.code}") for x in others))
        return "\n\n".join(text)


def suggest(
    num_embeddings: int,
    embedding_dim: int,
    tokens: int,
    parameters: int | None = None,
    backbone: Literal["lstm", "transformer"] = "lstm",
) -> Advice:
    """Suggests an embedding for a language model, by the nearest of what was measured.

    Nearest in training tokens for each word of the vocabulary and in parameters, see
    :mod:`define.measures.measured`. Of those within 1 % of the best, the smallest is first, and
    the best of those that are larger by less than 5 %.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the model.
        tokens: Training tokens that the model will see: those of the text times epochs.
        parameters: The most of embedding and tied output layer; the widths that were measured if
            omitted. What has more than a plain table is never suggested.
        backbone: Kind of the context model.

    Raises:
        ValueError: If a size is out of range, or no embedding is as small as `parameters`.
    """
    if min(num_embeddings, tokens) < 1 or embedding_dim < _STEP:
        sizes = f"{num_embeddings=} and {tokens=} must be at least 1"
        raise ValueError(f"{sizes}, {embedding_dim=} at least {_STEP}.")
    whole = num_embeddings * embedding_dim
    parameters = None if parameters is None else min(parameters, whole)
    methods, shares, found = list(_methods(num_embeddings, embedding_dim)), None, []
    with shapes_only():
        if parameters is not None:
            widths = [(m, _width(m, None, parameters)) for m in methods]
            shares = {m.name: m.size(n) / whole for m, n in widths if n is not None}
        near = _nearest(backbone, num_embeddings, tokens, shares)
        for method in methods:
            width = _width(method, near, parameters)
            if width is not None and (count := method.size(width)) <= whole:
                loss = _loss(method.name, near, count / whole)
                suggestion = Suggestion(
                    method.name, str(method.call(width)), count, count / whole, loss
                )
                found.append(suggestion)
    if not found:
        raise ValueError(f"No embedding of {num_embeddings=} is as small as {parameters=}.")
    best = min(inf if x.loss is None else x.loss for x in found)
    level = [x.parameters for x in found if x.loss is not None and x.loss <= best + _LEVEL]

    def order(x: Suggestion) -> tuple[bool, float, float]:
        loss = inf if x.loss is None else x.loss
        if loss > best + _LEVEL or not level:
            return True, loss, x.parameters
        alike = x.parameters <= _ALIKE * min(level)
        return False, 0 if alike else x.parameters, loss

    start = tokens >= min(_START * num_embeddings, _ENOUGH)
    computed = tokens >= _LONG or (start and num_embeddings >= _MANY)
    return Advice(tuple(sorted(found, key=order)), near, start, computed)


def _nearest(
    backbone: str, num_embeddings: int, tokens: int, shares: Mapping[str, float] | None
) -> Comparison | None:
    """The comparison to go by; None if none has about so many parameters.

    `shares` are those of the widest that fits, where parameters are limited: by method.

    Twice the training tokens for each word are one step away, and half the parameters as far as 16
    times the tokens: what a narrow table costs, training mends little. Twice the vocabulary is half
    a step, and so is a method that was not measured there, three quarters where parameters are
    limited: methods are to be compared at equal ones.
    """
    lack = 0.5 if shares is None else 0.75
    found = []
    for i, comparison in enumerate(MEASURED):
        far = {r: 0.0 for r in comparison.results}
        if shares is not None:
            far = {r: _far(r, shares[r.method]) for r in far if r.method in shares}
            far = {r: steps for r, steps in far.items() if steps <= _SHARE}
        if comparison.backbone == backbone and far:
            training = abs(log2(tokens / num_embeddings / comparison.tokens_per_word))
            words = abs(log2(num_embeddings / comparison.num_embeddings))
            missing = len(METHODS) - len({r.method for r in far})
            steps = 4 * min(far.values()) + training + words / 2 + lack * missing
            found.append((steps, i, comparison))
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
class _Call:
    """A class and its arguments, among them other calls; as text, the code."""

    kind: type[nn.Module]
    arguments: dict[str, Any]

    def build(self) -> nn.Module:
        values = self.arguments.items()
        return self.kind(**{k: v.build() if isinstance(v, _Call) else v for k, v in values})

    def __str__(self) -> str:
        named = dict(self.arguments)
        sizes = f"{named.pop('num_embeddings'):_}, {named.pop('embedding_dim')}"
        shown = "".join(f", {name}={_code(value)}" for name, value in named.items())
        return f"{_code(self.kind)}({sizes}{shown})"


def _wrapped(code: str) -> str:
    return fill(code, 100, subsequent_indent="      ", break_long_words=False)


def _code(value: object) -> str:
    if isinstance(value, type):  # `define.Embedding` is another class than torch's
        return f"nn.{value.__name__}" if value.__module__.startswith("torch.") else value.__name__
    return str(value) if isinstance(value, _Call) else repr(value)


@dataclass(frozen=True)
class _Method:
    """An embedding with one width that is free."""

    name: str
    call: Callable[[int], _Call]  # of a width
    widths: Sequence[int]

    def size(self, width: int) -> int:
        embedding = self.call(width).build()
        return count_parameters(embedding, tied_output(embedding))


def _methods(num_embeddings: int, embedding_dim: int) -> Iterator[_Method]:
    def call(kind: type[nn.Module], width: int = embedding_dim, **arguments: Any) -> _Call:  # noqa: ANN401
        sizes = {"num_embeddings": num_embeddings, "embedding_dim": width}
        return _Call(kind, {**sizes, **arguments})

    def adaptive(n: int) -> _Call:
        narrow = {} if n == embedding_dim else {"map_dim": n}
        return call(AdaptiveEmbedding, cutoffs=cutoffs, **narrow)

    widths = range(_STEP, embedding_dim + 1, _STEP)
    whole = sorted({*widths, embedding_dim})
    # Narrower than the model, which reads rows as they are.
    yield _Method("standard", lambda n: call(nn.Embedding, n), whole)
    cutoffs = usual_cutoffs(num_embeddings) if num_embeddings >= 10 else ()
    bands = [n for n in whole if n >= 4 ** len(cutoffs)]
    if bands and cutoffs:

        def projected(n: int) -> _Call:
            return call(ProjectedEmbedding, map=call(AdaptiveEmbedding, n, cutoffs=cutoffs))

        def unit(n: int) -> _Call:
            start = "identity" if n == embedding_dim else "projection"
            options = {"depth": 3, "max_groups": 8, "norm": nn.LayerNorm, "start": start}
            map = call(AdaptiveEmbedding, n, cutoffs=cutoffs)
            return call(DeFINE, map=map, expand_dim=2 * n, **options)

        yield _Method("adaptive", adaptive, bands)
        yield _Method("projected, adaptive", projected, bands)
        yield _Method("DeFINE, adaptive", unit, [n for n in bands if n % _STEP == 0])
    yield _Method("projected", lambda n: call(ProjectedEmbedding, map=n), widths)

    def plain_unit(n: int) -> _Call:
        return call(DeFINE, map=n, expand_dim=4 * n, depth=3, max_groups=8)

    yield _Method("DeFINE", plain_unit, widths)


def _width(method: _Method, near: Comparison | None, parameters: int | None) -> int | None:
    """The width to take, or None where not even the narrowest is small enough."""
    if parameters is not None:
        fitting = bisect_right(method.widths, parameters, key=method.size)
        return method.widths[fitting - 1] if fitting else None
    there = [] if near is None else [r for r in near.results if r.method == method.name]
    anywhere = [r for c in MEASURED for r in c.results if r.method == method.name]
    wanted = max(r.width for r in there or anywhere) * method.widths[-1]
    return min(method.widths, key=lambda width: abs(width - wanted))
