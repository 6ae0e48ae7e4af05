"""What embeddings share: the contract of `torch.nn.Embedding`, computed once per distinct id."""

from itertools import chain, pairwise
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.contract import Band, Layer, Member, check_ids
from define.embedding.distinct import distinct_ids
from define.embedding.readonly import ReadOnly, refusal
from define.embedding.row_cache import RowCache
from define.embedding.shared import (
    StepCache,
    in_chunks,
    is_bare,
    is_checkpointed,
    look_up,
    snapshot,
)
from define.embedding.tables import check_padding, check_sizes, table_size
from define.embedding.tracing import is_traced
from define.modes import evaluating

__all__ = ["Band", "Embedding", "Layer", "table_size"]

_CHUNK = 8192  # rows of the whole table computed at a time: 32 MB at 1024 features


class Embedding(Member):
    r"""Base of embeddings whose rows are computed instead of stored.

    A subclass says what the rows of given ids are (:meth:`rows`); a row must depend on its id
    alone. The base looks ids up as `torch.nn.Embedding` does, but computes each distinct id of a
    batch only once (Sec. 3.4: neither Map nor unit depends on the neighbours of a token). Dropout
    inside the unit therefore falls on token types: all occurrences in a batch share one mask.

    What others need to know of a subclass, it says itself, see
    :class:`~define.embedding.contract.Member`: how it grows, how it starts from a given table, the
    table that an output layer ties to, its bands, its layers, its cost. Each has a default.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        std: Standard deviation of the output at initialization; `torch.nn.Embedding` has 1.

    Raises:
        ValueError: If a size or `padding_idx` is out of range.

    Shape:
        (\*batch) ids, int64 or int32 → (\*batch, embedding_dim).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        num_embeddings, embedding_dim = check_sizes(
            num_embeddings=num_embeddings, embedding_dim=embedding_dim
        )
        if not std > 0:  # NaN too
            raise ValueError(f"{std=} must be above 0.")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = check_padding(padding_idx, num_embeddings)
        self.std = std
        self.shared_stops: tuple[int, ...] = ()
        self._made = StepCache()
        self._row_cache: RowCache | None = None

    def forward(
        self,
        ids: Int[Tensor, "*batch"] | None = None,
        *,
        input: Int[Tensor, "*batch"] | None = None,
    ) -> Float[Tensor, "*batch features"]:
        """Looks up the rows of `ids`, each distinct one computed once.

        As a keyword they may be called `input` too, as in `torch.nn.Embedding`.

        Where no shape can depend on data (`torch.compile`, `torch.export`, ONNX, `torch.func.vmap`,
        the meta device), it computes a row for each id, or the whole table if that is fewer. The
        values are the same, but dropout inside the unit falls on tokens there.

        Raises:
            TypeError: If `ids` is not a tensor of int64 or int32, or is given under both names.
            IndexError: If an id is outside of the vocabulary (on a GPU, where the check would
                stall the queue, by the device's own assertion).
        """
        if ids is None:
            ids, input = input, None
        if input is not None:
            raise TypeError("ids and input are two names of one argument: give one of them.")
        check_ids(ids)
        ids = cast(Tensor, ids)
        if is_traced(ids):
            return self._traced(ids)
        if ids.numel() and ids.device.type == "cpu":
            for id_ in map(int, ids.aminmax()):
                if not 0 <= id_ < self.num_embeddings:
                    num_embeddings = self.num_embeddings
                    raise IndexError(f"id {id_} is not within {num_embeddings=}.")
        bare = is_bare(self)
        if bare and not torch.is_grad_enabled():
            if self.draws():  # no gradient will say that the step is over
                for part in self.modules():
                    if isinstance(part, Embedding):
                        part._made.clear()
            elif self._row_cache is not None and not self.training:
                if (found := self._row_cache.look_up(self, ids)) is not None:
                    return found
        # Of rows that a checkpoint makes again, those with dropout are made by themselves: another
        # reader's would leave random numbers undrawn.
        stops = self.shared_stops if bare and not (is_checkpointed() and self.draws()) else ()
        if stops == (self.num_embeddings,) and ids.numel():
            return look_up(ids, self.made_rows())
        distinct, positions = distinct_ids(ids, self.num_embeddings)
        rows, start, i = [], 0, 0
        for stop in stops:
            j = int(torch.searchsorted(distinct, stop))
            if i < j:
                rows.append(look_up(distinct[i:j] - start, self.made_rows(stop, start)))
            start, i = stop, j
        rows.append(self.padded_rows(distinct[i:]))
        return F.embedding(positions, torch.cat(rows) if len(rows) > 1 else rows[0])

    def _traced(self, ids: Tensor) -> Tensor:
        # A size that an exported program leaves open is not compared with anything.
        few = torch.compiler.is_exporting() or ids.numel() < self.num_embeddings
        if few:
            flat = ids.flatten()
            return self.padded_rows(flat).view(*ids.shape, self.embedding_dim)
        return F.embedding(ids, self.padded_rows(self._ids(self.num_embeddings)))

    def padded_rows(self, ids: Tensor) -> Tensor:
        """Rows of ids, computed for each of them; zero for the padding id."""
        rows = self.traced_rows if is_traced(ids) else self.rows
        return self.without_padding(ids, rows(ids))

    def without_padding(self, ids: Tensor, rows: Tensor) -> Tensor:
        """The rows (len(ids), m), those of the padding id set to zero."""
        if self.padding_idx is None:
            return rows
        return rows.masked_fill((ids == self.padding_idx)[:, None], 0.0)

    @property
    def weight(self) -> Float[Tensor, "num_embeddings features"]:
        """The whole table (num_embeddings, embedding_dim), computed anew, without dropout.

        Gradients flow where they are enabled; under `torch.no_grad` memory stays at the table's.
        It is there to be read: writing into it raises an error that says what to do instead.
        """
        table = self.whole_table()
        return table if is_traced(table) else table.as_subclass(ReadOnly)

    def whole_table(self) -> Float[Tensor, "num_embeddings features"]:
        """The same as a plain tensor, for code that is compiled or counts microseconds."""
        with evaluating(self):
            ids = self._ids(self.num_embeddings)
            return torch.cat([self.padded_rows(chunk) for chunk in ids.split(_CHUNK)])

    def made_rows(self, stop: int | None = None, start: int = 0) -> Float[Tensor, "rows features"]:
        """Rows of the table (all if nothing is given) as this step has them, with dropout.

        They are made once a step: look-ups and output layers read the same tensor until its
        gradient has been taken or a parameter has changed; in evaluation until one changes, and
        with dropout but without gradient until the next look-up. Parts that are shared by
        themselves (:meth:`share_rows`) are made by themselves.
        """
        stop = self.num_embeddings if stop is None else stop
        if is_traced(self._ids(0)):
            return self.padded_rows(self._ids(stop, start))
        inner = (edge for edge in self.shared_stops if start < edge < stop)
        parts = [
            self._made.get(self, (i, j), lambda i=i, j=j: self.range_rows(i, j))
            for i, j in pairwise((start, *inner, stop))
        ]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def range_rows(self, start: int, stop: int) -> Float[Tensor, "rows features"]:
        """Makes a range of the table's rows in the present mode, in chunks."""
        return in_chunks(
            snapshot(self).padded_rows,
            self._ids(stop, start),
            None,
            list(self.parameters()),
            draws=self.draws(),
            numbers=self.numbers_per_row(),
        )

    def draws(self) -> bool:
        """Whether a part in training mode draws random numbers: dropout, or what is not known."""
        known = ("torch.nn.", "define.")
        return any(
            getattr(part, "p", 0) > 0
            or isinstance(part, nn.RReLU)
            or not type(part).__module__.startswith(known)
            for part in self.modules()
            if part.training
        )

    def numbers_per_row(self) -> int:
        """How many numbers one row holds for the gradient, roughly."""
        # What a linear layer reads, gives to its activation, and what that gives on.
        return 3 * sum(layer.width for layer in self.layers()) or 2 * self.embedding_dim

    def share_rows(self, *stops: int) -> None:
        """Lets look-ups index the rows that :meth:`made_rows` gives, in parts that end at `stops`.

        Output layers that read computed rows call it. A forward hook within the embedding, such as
        the dropout of whole words, is for the input alone: look-ups are then made by themselves.
        """
        self.shared_stops = tuple(sorted({*self.shared_stops, *stops}))

    def cache_rows(self, capacity: int) -> None:
        """Keeps rows that were looked up, so that repeated ids cost what a plain table costs.

        In evaluation and without gradient alone; in training every row is computed anew. It takes
        4 m bytes for each of `capacity` rows of float32, and 4 for each of the V ids; neither is
        saved. The oldest rows make room for new ones, and all are let go when anything that they
        depend on changes, but for what is written through `.data`.

        Args:
            capacity: Rows kept: more than a batch has distinct ids. 0 ends it.

        Example:
            >>> from define import ProjectedEmbedding
            >>> embedding = ProjectedEmbedding(1000, 32, map=8).eval()
            >>> embedding.cache_rows(100)
            >>> with torch.no_grad():
            ...     rows = embedding(torch.tensor([3, 1, 3]))  # the next time: a look-up
        """
        if capacity < 0:
            raise ValueError(f"{capacity=} must be at least 0.")
        self._row_cache = RowCache(capacity) if capacity else None

    def resize(self, num_embeddings: int, mean: bool = False) -> None:
        before = self.num_embeddings
        super().resize(num_embeddings, mean)
        stops = (num_embeddings if stop == before else stop for stop in self.shared_stops)
        self.shared_stops = tuple(stop for stop in stops if stop <= num_embeddings)

    def _ids(self, stop: int, start: int = 0) -> Tensor:
        like = next(chain(self.parameters(), self.buffers()))
        return torch.arange(start, stop, device=like.device)

    @torch.no_grad()
    def to_embedding(self) -> nn.Embedding:
        """The trained table as a plain `torch.nn.Embedding`: inference costs one look-up."""
        with torch.autocast(self._ids(0).device.type, enabled=False):
            table = self.whole_table()
        return nn.Embedding.from_pretrained(table, freeze=False, padding_idx=self.padding_idx)

    def __setattr__(self, name: str, value: Any) -> None:  # noqa: ANN401
        if name == "weight":
            raise AttributeError(refusal(type(self).__name__))
        super().__setattr__(name, value)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"
