"""Rows that were computed lately, ready as those of a plain table."""

from threading import Lock
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from define.embedding.shared import StepCache

if TYPE_CHECKING:
    from define.embedding.base import Embedding

__all__ = ["RowCache"]


class RowCache:
    """A fixed number of an embedding's rows; the oldest makes room for a new one.

    All are let go when anything changes that they depend on. Copies start empty.

    Args:
        capacity: Rows kept, at least one.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._slots = torch.empty(0)
        self._made = StepCache(sums=False)  # a look-up reads a few rows, not all parameters
        self._lock = Lock()  # no row is overwritten while another thread reads it

    @torch.no_grad()
    def look_up(
        self, embedding: "Embedding", ids: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch features"] | None:
        """The rows of `ids`; None if they are more than can be kept."""
        with self._lock:
            if len(self._slots) != embedding.num_embeddings:
                self._made.clear()  # it may have grown without a parameter that changed
            rows = self._made.get(embedding, "rows", lambda: self._empty(embedding, ids))
            slots = self._slots[ids]
            if bool((slots < 0).any()):
                self._fill(embedding, rows, ids[slots < 0].unique())
                slots = self._slots[ids]
                if bool((slots < 0).any()):
                    return None
            return F.embedding(slots, rows)

    def _empty(self, embedding: "Embedding", ids: Tensor) -> Tensor:
        self._slots = ids.new_full((embedding.num_embeddings,), -1, dtype=torch.int32)
        self._owners = ids.new_full((self.capacity,), -1)
        self._next = 0
        like = embedding.padded_rows(ids.new_zeros(1))
        return like.new_empty(self.capacity, like.shape[1])

    def _fill(self, embedding: "Embedding", rows: Tensor, ids: Tensor) -> None:
        if len(ids) > self.capacity:
            return
        places = torch.arange(self._next, self._next + len(ids), device=ids.device) % self.capacity
        self._next = (self._next + len(ids)) % self.capacity
        before = self._owners[places]
        self._slots[before[before >= 0]] = -1
        rows[places] = embedding.padded_rows(ids)
        self._owners[places] = ids
        self._slots[ids] = places.int()

    def __reduce__(self) -> tuple[type["RowCache"], tuple[int]]:
        return RowCache, (self.capacity,)
