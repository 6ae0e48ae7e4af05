"""Which embedding to take for a language model, from what was measured."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import inf, log2
from typing import Any, Literal

from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.measures.cost import default_cutoffs, tied_output
from define.measures.counting import count_parameters, shapes_only
from define.measures.measured import MEASURED, Comparison
from define.measures.table import MISSING, text_table

__all__ = ["Suggestion", "suggest", "suggestion_text"]

_STEP = 8  # of widths
_LEVEL = 0.01  # differences in perplexity that count as none


@dataclass(frozen=True)
class Suggestion:
    """One embedding for a vocabulary.

    Attributes:
        method: "standard", "adaptive", "projected" or "DeFINE".
        code: How it is made.
        parameters: Its own and those of the output layer that is tied to it.
        share: They over those of the standard table.
        perplexity: Expected, over that of the standard table: as in the nearest comparison.
        source: That comparison; None where nothing was measured.
    """

    method: str
    code: str
    parameters: int
    share: float
    perplexity: float | None
    source: Comparison | None


def suggest(
    num_embeddings: int,
    embedding_dim: int,
    tokens: int,
    parameters: int | None = None,
    backbone: Literal["lstm", "transformer"] = "lstm",
) -> tuple[Suggestion, ...]:
    """Embeddings for a language model, the one to take first.

    What an embedding costs in perplexity is that of the comparison which is nearest in parameters
    and in training tokens for each word of the vocabulary, see :mod:`define.measures.measured`;
    where none is of about as many parameters, it is not known. Of those within 1 % of the best,
    the one with the fewest parameters is first.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the rows that the model reads.
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
    found = []
    with shapes_only():
        for method in _methods(num_embeddings, embedding_dim):
            width = _width(method, parameters)
            if width is None:
                continue
            count = method.size(width)
            near = _nearest(method.name, backbone, tokens / num_embeddings, count / whole)
            suggestion = Suggestion(method.name, method.code(width), count, count / whole, *near)
            found.append(suggestion)
    if not found:
        raise ValueError(f"No embedding of {num_embeddings=} is as small as {parameters=}.")
    best = min(x.perplexity or inf for x in found)

    def order(x: Suggestion) -> tuple[float, float]:
        change = x.perplexity or inf
        return (0 if change <= best + _LEVEL else change, x.parameters)

    return tuple(sorted(found, key=order))


def suggestion_text(suggestions: tuple[Suggestion, ...]) -> str:
    """What to take, and why, as text."""
    first = suggestions[0]
    rows = [
        (
            x.method,
            f"{x.parameters:,}",
            f"{100 * x.share:.0f} %",
            MISSING if x.perplexity is None else f"{100 * (x.perplexity - 1):+.1f} %",
            MISSING
            if x.source is None
            else f"{x.source.model}, {x.source.tokens / x.source.num_embeddings:,.0f} a word",
        )
        for x in suggestions
    ]
    header = ("embedding", "parameters", "of standard", "perplexity", "measured on")
    codes = "\n".join(f"  {x.code}" for x in suggestions[1:])
    sections = sorted({x.source.section for x in suggestions if x.source})
    heard = "\n".join(f"  {section}" for section in sections) or "  nothing of this size"
    known = first.perplexity is not None
    head = "Take" if known else "Nothing was measured at this size. The smallest that fits is"
    return f"""\
{head} {first.code}

{text_table(header, rows)}

Parameters are those of embedding and tied output layer; perplexity is that against the standard
table, in the comparison that is nearest in parameters and in training tokens for each word.
Differences below 1 % are level: the smaller one is first. The others are
{codes}

For a table that is trained already, see define compress. Measured (docs/log.md):
{heard}"""


@dataclass(frozen=True)
class _Method:
    """An embedding with one width that is free."""

    name: str
    kind: type[nn.Module]
    sizes: tuple[int, int]  # V and m
    arguments: Callable[[int], dict[str, Any]]
    widths: Sequence[int]

    def size(self, width: int) -> int:
        embedding = self.kind(*self.sizes, **self.arguments(width))
        return count_parameters(embedding, tied_output(embedding))

    def code(self, width: int) -> str:
        options = [f"{name}={value!r}" for name, value in self.arguments(width).items()]
        shown = [f"{self.sizes[0]:_}", str(self.sizes[1]), *options]
        return f"{self.kind.__name__}({', '.join(shown)})"


def _methods(num_embeddings: int, embedding_dim: int) -> Iterator[_Method]:
    sizes, widths = (num_embeddings, embedding_dim), range(_STEP, embedding_dim + 1, _STEP)
    yield _Method("standard", nn.Embedding, sizes, lambda _: {}, (embedding_dim,))
    if cutoffs := default_cutoffs(num_embeddings, embedding_dim):
        bands = sorted({*(n for n in widths if n >= 4 ** len(cutoffs)), embedding_dim})
        options = {"cutoffs": cutoffs}
        make = lambda n: options if n == embedding_dim else {**options, "map_dim": n}  # noqa: E731
        yield _Method("adaptive", AdaptiveEmbedding, sizes, make, bands)
    yield _Method("projected", ProjectedEmbedding, sizes, lambda n: {"map": n}, widths)

    def unit(n: int) -> dict[str, Any]:  # of the shape that was measured
        return {"map": n, "expand_dim": 4 * n, "depth": 3, "max_groups": 8}

    yield _Method("DeFINE", DeFINE, sizes, unit, widths)


def _width(method: _Method, parameters: int | None) -> int | None:
    """The width to take, or None where not even the narrowest is small enough."""
    if parameters is not None:
        fitting = bisect_right(method.widths, parameters, key=method.size)
        return method.widths[fitting - 1] if fitting else None
    shares = [r.width for c in MEASURED for r in c.results if r.method == method.name]
    wanted = max(shares, default=1.0) * method.sizes[1]
    return min(method.widths, key=lambda width: abs(width - wanted))


def _nearest(
    method: str, backbone: str, tokens_per_word: float, share: float
) -> tuple[float | None, Comparison | None]:
    """What a method had in perplexity where size and training were nearest, and where."""
    if method == "standard":
        return 1.0, None
    known = [
        (distance + abs(log2(tokens_per_word * c.num_embeddings / c.tokens)), i, r.perplexity, c)
        for i, c in enumerate(MEASURED)
        for r in c.results
        if r.method == method and c.backbone == backbone
        # Half the parameters is as far as 16 times the text: a narrow table costs what it costs.
        if (distance := 4 * abs(log2(share / r.share))) <= 4
    ]
    if not known:
        return None, None
    _, _, perplexity, comparison = min(known, key=lambda item: item[:2])
    return perplexity, comparison
