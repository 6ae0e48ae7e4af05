"""Checkpoints: tensors and plain containers, so that reading one executes nothing."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.io.checkpoint_io import CheckpointIO

from define.training.run import Run, misfits

__all__ = ["RunCheckpoints"]

_PARTS = ("state_dict", "optimizer_states", "lr_schedulers", "loops", "callbacks", "processes")

logger = logging.getLogger("define")


class RunCheckpoints(CheckpointIO):
    """Writes the checkpoints of a run and reads the last one that is whole.

    Written beside the one before, which stays; never through a folder for temporary files, whose
    disk may be smaller.

    Args:
        run: The run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self.found = self._find()

    @property
    def path(self) -> Path | None:
        """The checkpoint to go on from, if there is one."""
        return self._run.checkpoint if self.found is not None else None

    @property
    def validated(self) -> bool:
        """Whether there is one that a validation was before, which left weights."""
        return bool((self.found or {}).get("callbacks", {}).get("_Progress", {}).get("history"))

    def _find(self) -> dict[str, Any] | None:
        """The last checkpoint that is whole.

        Raises:
            ValueError: If there are some, and none of them is whole: they are named.
        """
        errors = []
        for file in (self._run.checkpoint, self._run.previous_checkpoint):
            if not file.is_file():
                continue
            try:
                self._run.check(file)
                found = _read(file)
            except ValueError as error:
                errors.append(str(error))
            else:
                for error in errors:
                    logger.warning("%s The one before it is used.", error)
                return found
        if errors:
            raise ValueError(" ".join(errors))
        return None

    def check_fits(self, state: Mapping[str, Any]) -> None:
        """Checks the checkpoint against the state of what is trained.

        Raises:
            ValueError: If names or shapes of tensors differ.
        """
        if self.found is not None and (wrong := misfits(self.found["state_dict"], state)):
            raise ValueError(f"{self._run.checkpoint} does not fit the model: {wrong}.")

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        path: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        """Writes the last checkpoint; the one that was the last becomes the previous one.

        Raises:
            TypeError: If something in it could not be read again without executing it.
            OSError: If it cannot be written.
        """
        _check_plain(checkpoint, "checkpoint")
        run = self._run
        with run.writing(run.checkpoint, keep=run.previous_checkpoint) as draft:
            try:
                torch.save(checkpoint, draft)
            except RuntimeError as error:
                what = str(error).splitlines()[0]
                raise OSError(f"{draft} cannot be written: {what}. Is the disk full?") from error

    def load_checkpoint(self, path: str | Path, *args: Any, **kwargs: Any) -> dict[str, Any]:  # noqa: ANN401
        if self.found is None:
            raise FileNotFoundError(f"{self._run.path} has no checkpoint.")
        return self.found

    def remove_checkpoint(self, path: str | Path) -> None:
        raise NotImplementedError("The checkpoints of a run stay.")


def _read(file: Path) -> dict[str, Any]:
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        what = " ".join(str(error).split())[:200]
        raise ValueError(f"{file} is damaged, or holds what would be executed: {what}") from error
    except Exception as error:  # torch raises whatever the damaged bytes lead it to
        raise ValueError(f"{file} is damaged: {type(error).__name__}: {error}.") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} is no checkpoint of a run: it is no mapping.")
    if missing := [part for part in _PARTS if part not in found]:
        raise ValueError(f"{file} is no checkpoint of a run: it lacks {missing[0]!r}.")
    return found


def _check_plain(value: Any, place: str) -> None:  # noqa: ANN401
    if isinstance(value, Mapping):
        for name, part in value.items():
            _check_plain(name, f"a name in {place}")
            _check_plain(part, f"{place}[{name!r}]")
    elif type(value) in (list, tuple):
        for i, part in enumerate(value):
            _check_plain(part, f"{place}[{i}]")
    elif value is not None and type(value) not in (bool, int, float, str, torch.Tensor):
        raise TypeError(f"{place} is of {type(value)}: only tensors and numbers can be saved.")
