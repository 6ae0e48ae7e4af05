"""An embedding to measure, what else is known of it, and what several measures read of it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from define.measures.correlation import Correlation, correlations
from define.measures.layers import LayerCorrelation, layers_by
from define.measures.rows import Table, held, table_shape
from define.measures.summary import RunSummary

__all__ = ["Readings", "Subject", "Translation"]


@dataclass(frozen=True)
class Translation:
    """A sentence, how people and how a model translate it."""

    source: str
    reference: str
    ours: str


@dataclass(frozen=True)
class Subject:
    """An embedding to analyze, and what else is known.

    Attributes:
        name: For the report; of no other subject.
        embedding: What kind it is, such as its class.
        table: The embedding: a module or a (V, m) matrix.
        words: The V words, in the order of their ids.
        settings: The configuration that it comes from, as text.
        counts: (V,) how often each word occurs in training, if that is known.
        summary: Parameters, speed and perplexities, as training left them.
        losses: Gives each target of a text and its negative log-likelihood in nats, both
            (tokens,), as :func:`~define.measures.token_nll` does; wants `counts`.
        translations: Of the test, in its order, by a model of translation.

    Raises:
        ValueError: If there is not one word for each row.
    """

    name: str
    embedding: str
    table: Table
    words: Sequence[str]
    settings: str
    counts: Tensor | None = None
    summary: RunSummary | None = None
    losses: Callable[[], tuple[Tensor, Tensor]] | None = None
    translations: Sequence[Translation] = ()

    def __post_init__(self) -> None:
        size, _ = table_shape(self.table)
        if len(self.words) != size:
            raise ValueError(f"{self.name} has {len(self.words)} words and {size} rows.")


class Readings:
    """What measures of one subject share, each computed when it is first asked for.

    Rows that are computed are computed once for all who read them, and once more with what the
    layers give on the way; a table of more than 1 GiB is computed at each reading instead.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject

    @cached_property
    def rows(self) -> Table:
        """The embedding's table, held if it is computed."""
        return held(self.subject.table)

    @cached_property
    def weightings(self) -> list[Tensor | None]:
        """Each word counted once, and as often as it occurs in training if that is known."""
        counts = self.subject.counts
        return [None] if counts is None else [None, counts]

    @cached_property
    def layers(self) -> tuple[tuple[LayerCorrelation, ...], ...]:
        """From the Map to the output, for each weighting; empty without layers."""
        return layers_by(self.subject.table, self.weightings)

    @cached_property
    def output(self) -> tuple[Correlation, ...]:
        """Correlation between the embedding's dimensions, for each weighting."""
        if self.layers[0]:  # the last layer is the output: the vocabulary is not gone through again
            return tuple(found[-1].correlation for found in self.layers)
        return correlations(self.rows, self.weightings)
