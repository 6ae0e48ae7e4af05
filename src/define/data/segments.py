"""Batches of contiguous text for truncated backpropagation through time."""

from itertools import accumulate
from typing import Any

import numpy as np
import torch
from torch import Tensor

from define.data.position import PlannedBatches

__all__ = ["PADDING", "Segments", "even_plan", "random_plan"]

PADDING = -100
"""The target of places that hold no token: what `ignore_index` of torch's losses is."""


class Segments(PlannedBatches[tuple[int, int]]):
    """A text cut into columns that are read side by side, one segment of time after the other.

    The text is cut into `batch_size * world_size` contiguous columns of equal length n; column
    c holds the ids from c·n on, and its targets are the ids one place later, the first of the next
    column included. Batch t holds the next `lengths[t]` places of every column, so it continues
    where batch t - 1 stopped and a model's state can be carried over. Ranks take neighbouring
    columns: rank r those from `r * batch_size` on.

    `state_dict` names the batch that comes next. After `load_state_dict`, one iteration goes on
    there; every other starts at the first batch. A finished epoch moves on to the plan of the next;
    it is finished once its last batch is handed out.

    Args:
        ids: The text, (tokens,), any integer type; may be memory-mapped.
        batch_size: Columns of this rank.
        length: Places a batch, in time.
        random_lengths: Draw the lengths as AWD-LSTM does (Merity et al. 2018, Sec. 5), so that no
            place of the text always is at the edge of a segment: around `length` with
            probability 0.95, else around half of it, with standard deviation 5, at least 5. They
            are planned for a whole epoch from `(seed, epoch)`, the same on every rank.
        seed: Of the random lengths.
        drop_last: Drop the targets, fewer than there are columns, that do not fill another place
            of every column. False, for evaluation: every id but the very first is a target exactly
            once; the places left over at the end have token 0 and target -100.
        rank: Of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If the text is too short to give every column a target, or an argument is out
            of its range.
    """

    def __init__(
        self,
        ids: Tensor,
        batch_size: int,
        length: int,
        *,
        random_lengths: bool = False,
        seed: int = 0,
        drop_last: bool = True,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if ids.dim() != 1 or ids.is_floating_point():
            raise ValueError(f"ids must be 1-D integers, not {tuple(ids.shape)} of {ids.dtype}.")
        if batch_size < 1 or length < 1:
            raise ValueError(f"{batch_size=} and {length=} must be at least 1.")
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank=} must be at least 0 and below {world_size=}.")
        columns, targets = batch_size * world_size, len(ids) - 1
        if targets < columns:
            raise ValueError(
                f"A text of {len(ids)} tokens is too short for {batch_size=} and {world_size=}: "
                f"it must have more than {columns}."
            )
        self._ids = ids
        self._length = length
        self._random_lengths = random_lengths
        self._seed = seed
        self._end = targets  # an id at or beyond this place has no successor
        self._places = targets // columns if drop_last else -(-targets // columns)
        self._starts = torch.arange(rank * batch_size, (rank + 1) * batch_size) * self._places
        super().__init__(
            {
                "tokens": len(ids),
                "columns": columns,
                "length": length,
                "random_lengths": random_lengths,
                "seed": seed,
                "drop_last": drop_last,
            }
        )

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next iteration start at a saved position, of any number of processes.

        Raises:
            ValueError: If it was saved under another setting: it would mean another place.
        """
        setting = dict(state["setting"])
        if "columns" not in setting:  # version 0.1
            setting["columns"] = setting["batch_size"] * setting["world_size"]
        super().load_state_dict({**state, "setting": setting})

    @property
    def lengths(self) -> tuple[int, ...]:
        """The plan of the epoch of the next batch: how long each of its batches is in time."""
        return tuple(length for _, length in self._plan)

    def _make_plan(self, epoch: int) -> list[tuple[int, int]]:
        """Place and length in time of each batch."""
        if self._random_lengths:
            lengths = random_plan(self._places, self._length, (self._seed, epoch))
        else:
            lengths = even_plan(self._places, self._length)
        return list(zip(accumulate(lengths, initial=0), lengths, strict=False))

    def _read(self, place: tuple[int, int]) -> tuple[Tensor, Tensor]:
        start, length = place
        places = self._starts[:, None] + torch.arange(start, start + length + 1)  # (B, time + 1)
        # Advanced indexing is a gather on the mapped file: only these pages are read.
        window = self._ids[places.clamp(max=self._end)].long()
        padding = places[:, :-1] >= self._end
        return window[:, :-1].masked_fill(padding, 0), window[:, 1:].masked_fill(padding, PADDING)


def even_plan(places: int, length: int) -> tuple[int, ...]:
    """Cuts `places` into parts of `length`, the last one shorter where it does not divide."""
    return tuple(min(length, places - start) for start in range(0, places, length))


def random_plan(places: int, length: int, seed: tuple[int, int]) -> tuple[int, ...]:
    """Cuts `places` into parts of random lengths; see `Segments`. The last one may be shorter."""
    draw = np.random.default_rng(seed)
    plan: list[int] = []
    while places > 0:
        base = length if draw.random() < 0.95 else length / 2
        plan.append(min(max(5, int(draw.normal(base, 5))), places))
        places -= plan[-1]
    return tuple(plan)
