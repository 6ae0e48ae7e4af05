"""Batches in an order that is planned by epoch, and a position in it that can be saved."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Generic, TypeVar

__all__ = ["BatchesInParts", "PlannedBatches"]

Place = TypeVar("Place")


class PlannedBatches(ABC, Generic[Place]):
    """Iterates over the batches of one epoch after another, and goes on from a saved position.

    Args:
        setting: What must be equal for a position in one iteration to mean the same in another.
    """

    def __init__(self, setting: Mapping[str, Any]) -> None:
        self._setting = dict(setting)
        self._epoch, self._batch = 0, 0  # of the batch that comes next
        self._plan = self._make_plan(0)
        self._resuming = False

    @abstractmethod
    def _make_plan(self, epoch: int) -> Sequence[Place]:
        """What each batch of an epoch is to hold."""

    @abstractmethod
    def _read(self, place: Place) -> Any:  # noqa: ANN401
        """One batch."""

    def __len__(self) -> int:
        """The number of batches of the epoch of the next batch."""
        return len(self._plan)

    def __iter__(self) -> Iterator[Any]:
        """Yields the batches that are left of the epoch of the next batch."""
        first = self._batch if self._resuming else 0
        self._resuming = False
        epoch, plan = self._epoch, self._plan
        for batch in range(first, len(plan)):
            # The position moves before the batch is handed out: a state saved while that is
            # worked on names the batch after it.
            self._batch = batch + 1
            if self._batch == len(plan):
                self._epoch, self._batch = epoch + 1, 0
                self._plan = self._make_plan(epoch + 1)
            yield self._read(plan[batch])

    def state_dict(self) -> dict[str, Any]:
        """The position, which is the batch that comes next, and the setting that it holds for."""
        return {"epoch": self._epoch, "batch": self._batch, "setting": dict(self._setting)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next iteration start at a saved position.

        Raises:
            ValueError: If it was saved under another setting: it would mean another place.
        """
        for name, value in self._setting.items():
            if state["setting"][name] != value:
                raise ValueError(
                    f"The position was saved with {name}={state['setting'][name]!r}, "
                    f"but this iteration has {name}={value!r}."
                )
        self._epoch, self._batch = state["epoch"], state["batch"]
        self._plan = self._make_plan(self._epoch)
        self._resuming = True


class BatchesInParts:
    """The parts of each batch, one after the other.

    Args:
        parts: Iterations that have a part of each batch, as processes would have them.
    """

    def __init__(self, parts: Sequence[PlannedBatches]) -> None:
        self._parts = parts

    def __len__(self) -> int:
        return sum(map(len, self._parts))

    def __iter__(self) -> Iterator[Any]:
        for batch in zip(*self._parts, strict=True):
            yield from batch

    def state_dict(self) -> dict[str, Any]:
        """The position, the same for all parts."""
        return self._parts[0].state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Lets the next iteration start at a saved position, of any number of parts."""
        for part in self._parts:
            part.load_state_dict(state)
