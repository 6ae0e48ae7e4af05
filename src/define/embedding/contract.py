"""What an embedding says of itself, so that nobody else needs to know its class."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.tables import table_size
from define.embedding.target import Target, check_target
from define.modes import evaluating

__all__ = [
    "Band",
    "Layer",
    "Member",
    "check_ids",
    "check_resize",
    "check_rows",
    "masked_band",
    "moved_band",
]


@dataclass(frozen=True)
class Band:
    """Words with a table of their own, and what brings its rows to the embedding's width.

    Args:
        start: First id.
        stop: First id beyond.
        source: The table (stop - start, width), or the embedding that computes it.
        projection: (embedding_dim, width); None where there is none.
        padding: Ids whose rows are zero, whatever the stored table has there. Output layers read
            bands: a padding row is zero for them too and gets no gradient.
    """

    start: int
    stop: int
    source: "Tensor | Member"
    projection: Tensor | None = None
    padding: tuple[int, ...] = ()

    @property
    def width(self) -> int:
        """That of the table."""
        source = self.source
        return source.shape[1] if isinstance(source, Tensor) else source.embedding_dim

    @property
    def table(self) -> Tensor:
        """(stop - start, width), of a computed table as the step has it."""
        return self.rows(self.start, self.stop)

    def rows(self, start: int, stop: int) -> Tensor:
        """The table's rows of the ids from `start` up to `stop`."""
        source, first = self.source, start - self.start
        if isinstance(source, Tensor):
            whole = start == self.start and stop == self.stop
            table = source if whole else source[first : stop - self.start]
        else:
            table = source.made_rows(stop - self.start, first)
        places = [id_ - start for id_ in self.padding if start <= id_ < stop]
        if not places:
            return table
        return table.index_fill(0, torch.tensor(places, device=table.device), 0.0)


def masked_band(band: Band, padding_idx: int | None) -> Band:
    """The band with zeros in the row of a padding id that is within it."""
    if padding_idx is None or not band.start <= padding_idx < band.stop:
        return band
    return replace(band, padding=(*band.padding, padding_idx))


def moved_band(band: Band, start: int) -> Band:
    """The band of a part whose ids begin at `start`."""
    padding = tuple(id_ + start for id_ in band.padding)
    return replace(band, start=band.start + start, stop=band.stop + start, padding=padding)


@dataclass(frozen=True)
class Layer:
    """One step on the way from ids to rows: its name, its number of groups and its width."""

    name: str
    groups: int
    width: int


class Member(nn.Module, ABC):
    """A member of the family: what others ask of it, and the answers of most.

    The same is asked of `torch.nn.Embedding` by :mod:`define.embedding.family`. A subclass keeps
    its arguments as attributes of the same names, so that it can be described and rebuilt.
    """

    num_embeddings: int
    embedding_dim: int
    padding_idx: int | None

    @abstractmethod
    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        """Rows of the table for valid ids in ascending order; padding is the base's matter."""

    def traced_rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        """The same for ids in any order, without shapes that depend on what they are."""
        return self.rows(ids)

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all parameters anew."""

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Float[Tensor, "num_embeddings features"],
        *,
        padding_idx: int | None = None,
        weights: Float[Tensor, " num_embeddings"] | None = None,
        **arguments: Any,  # noqa: ANN401
    ) -> "Member":
        """An embedding of this class that starts as the best approximation of a trained table.

        :func:`~define.fit_embedding` goes on from there.

        Args:
            embeddings: The table (V, m).
            padding_idx: Id whose row is zero and never trained.
            weights: What an error in each row costs, such as the frequencies of the words; equal
                if omitted.
            **arguments: The further arguments of the class, such as its widths.

        Raises:
            ValueError: If the table is not finite or all zero, or does not fit `weights`.
            TypeError: If the class has no way to start from a table.
        """
        if embeddings.dim() != 2:
            raise ValueError(f"embeddings {tuple(embeddings.shape)} must be a table (V, m).")
        table = embeddings.detach()
        wide = table.to(
            torch.promote_types(table.dtype, torch.float32)
        )  # what matrices are solved in
        like: dict[str, Any] = {"device": wide.device, "dtype": wide.dtype}
        if "dtype" not in inspect.signature(cls).parameters:  # it is made of given modules alone
            like = {}
        num_embeddings, embedding_dim = wide.shape
        module = cls(num_embeddings, embedding_dim, padding_idx, **like, **arguments).to(wide)
        with torch.no_grad():
            module.approximate(check_target(wide, module, weights))
        return module.to(table.dtype)

    def arguments(self) -> dict[str, Any]:
        """Keyword arguments that rebuild it, drawn anew: ``type(e)(**e.arguments())``.

        Raises:
            TypeError: If the class does not keep an argument as an attribute of the same name.
        """
        parameters = inspect.signature(type(self)).parameters
        names = [name for name in parameters if name not in ("device", "dtype")]
        for name in names:
            if not hasattr(self, name):
                raise TypeError(f"{type(self).__name__} keeps no attribute {name!r}, its argument.")
        return {name: getattr(self, name) for name in names}

    def tied_table(self) -> nn.Module:
        """The embedding whose table an output layer shares: the Map where there is one."""
        return self

    def bands(self) -> tuple[Band, ...] | None:
        """The bands of a vocabulary that is cut into tables of their own; None if it is not."""
        return None

    def as_bands(self) -> "tuple[Band, ...]":
        """The same as one band at least: of what is stored where it is as good, or computed."""
        return self.bands() or (Band(0, self.num_embeddings, self),)

    def map_bands(self) -> "tuple[Band, ...] | None":
        """The bands of the Map, of which there is at least one; None if there is no Map."""
        return None

    def made_rows(self, stop: int | None = None, start: int = 0) -> Tensor:
        """Rows of the table (all if nothing is given) as a step has them."""
        raise NotImplementedError

    def unit_parameters(self) -> list[nn.Parameter]:
        """Parameters that all words share and rows are computed with, none that is looked up."""
        return []

    def resize(self, num_embeddings: int, mean: bool = False) -> None:
        """Changes the number of rows in place: whatever is tied to the embedding stays so.

        Args:
            num_embeddings: New size V of the vocabulary.
            mean: Whether new rows start (nearly) at the mean of the old ones.

        Raises:
            ValueError: If the padding row or a band would be cut off.
            TypeError: If the class cannot be resized.
        """
        check_resize(num_embeddings, self.padding_idx)
        self.resize_tables(num_embeddings, mean)
        self.num_embeddings = num_embeddings

    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        """Changes the number of rows of all tables; :meth:`resize` does the rest."""
        raise TypeError(f"{type(self).__name__} cannot be resized: it has no resize_tables().")

    def approximate(self, target: Target) -> None:
        """Sets all parameters to the best approximation of a table that there is a formula for."""
        raise TypeError(
            f"{type(self).__name__} cannot start from a table: it has no approximate()."
        )

    @torch.no_grad()
    def set_rows(
        self, ids: Int[Tensor, " rows"], rows: Float[Tensor, "rows features"]
    ) -> Float[Tensor, " rows"]:
        """Sets rows to given vectors, or to the nearest that the embedding can stand for.

        Only what belongs to these words is changed, such as their rows in the Map: all other rows
        stay as they are.

        Args:
            ids: Different ids, not the padding's.
            rows: A row for each.

        Returns:
            The relative error of each row, ‖got − wanted‖ / ‖wanted‖.

        Raises:
            ValueError: If an id is given twice or is the padding's, a row is not finite, or shapes
                do not fit.
            IndexError: If an id is outside of the vocabulary.
            TypeError: If nothing in the embedding belongs to single words.
        """
        check_rows(self, ids, rows)
        order = ids.argsort()
        with evaluating(self):
            self.set_own_rows(ids[order], rows[order])
            error = torch.linalg.vector_norm((self(ids) - rows).double(), dim=1)
        wanted = torch.linalg.vector_norm(rows.double(), dim=1)
        return torch.where(error > 0, error / wanted, 0.0).to(rows.dtype)

    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        """Sets the rows of valid ascending ids; :meth:`set_rows` does the rest."""
        raise TypeError(f"{type(self).__name__} cannot set rows: it has no set_own_rows().")

    @property
    def is_exact(self) -> bool:
        """Whether :meth:`approximate` leaves nothing to improve."""
        return False

    def solve(self, target: Target) -> bool:
        """Sets what a row is linear in to its least-squares solution, the rest as it is.

        Returns:
            Whether there is such a thing.
        """
        return False

    def solved_parameters(self) -> list[nn.Parameter]:
        """What :meth:`solve` sets and gradient steps of a fit should leave to it."""
        return []

    def layers(self) -> tuple[Layer, ...]:
        """The steps on the way to rows, the Map first, the output last; () if there are none."""
        return ()

    def layer_outputs(self, ids: Int[Tensor, " rows"]) -> Iterator[Float[Tensor, "rows width"]]:
        """What each of :meth:`layers` gives for ascending ids; the unit runs once."""
        return iter(())

    def row_cost(self) -> int:
        """Multiply-adds to compute one row, the mean over the vocabulary; 0 for a look-up."""
        return 0


def check_resize(num_embeddings: int, padding_idx: int | None) -> None:
    """Checks a new number of rows.

    Raises:
        ValueError: If it is below 1 or cuts the padding row off.
    """
    if num_embeddings < 1 or (padding_idx is not None and padding_idx >= num_embeddings):
        raise ValueError(f"{num_embeddings=} must be at least 1 and above {padding_idx=}.")


def check_rows(embedding: nn.Module, ids: Tensor, rows: Tensor) -> None:
    """Checks what :meth:`Embedding.set_rows` is given.

    Raises:
        TypeError: If `ids` are no tensor of whole numbers.
        ValueError: If an id is given twice or is the padding's, a row is not finite, or shapes do
            not fit.
        IndexError: If an id is outside of the vocabulary.
    """
    check_ids(ids)
    num_embeddings, embedding_dim = table_size(embedding)
    if ids.dim() != 1 or rows.shape != (len(ids), embedding_dim):
        raise ValueError(
            f"ids {tuple(ids.shape)} and rows {tuple(rows.shape)} must be (k,) and "
            f"(k, {embedding_dim=})."
        )
    for id_ in ids.tolist():
        if not 0 <= id_ < num_embeddings:
            raise IndexError(f"id {id_} is not within {num_embeddings=}.")
        if id_ == embedding.padding_idx:
            raise ValueError(f"id {id_} is that of the padding, whose row stays zero.")
    if len(ids.unique()) < len(ids):
        raise ValueError(f"ids must be different, not {ids.tolist()}.")
    wrong = ~rows.isfinite().all(1)
    if wrong.any():
        raise ValueError(f"The row for id {int(ids[wrong][0])} is not finite.")


def check_ids(ids: object, name: str = "ids") -> None:
    """Raises TypeError if ids are not a tensor of int64 or int32."""
    if not isinstance(ids, Tensor) or ids.dtype not in (torch.int64, torch.int32):
        kind = ids.dtype if isinstance(ids, Tensor) else type(ids).__name__
        raise TypeError(f"{name} must be a tensor of int64 or int32, not {kind}.")
