"""The folder that a training run leaves: all that any command needs to go on from it."""

import json
import os
import platform
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor, nn

from define.files import atomic_write, checksum, save_tensors, write_text
from define.readers import open_tensors, read_json

__all__ = ["Run"]


class Run:
    """A run's folder and the names in it.

    - `config.yaml`: recipe, seed and resolved arguments, of its first start;
    - `vocabulary.txt`: one word a line, by id; `tokenizer.json` where words have parts;
    - `model.safetensors`: weights of the best validation so far;
    - `checkpoints/last.ckpt`: all that training needs to go on; `previous.ckpt`: the one before;
    - `logs/`: metrics as CSV and TensorBoard, one version each time training was started;
    - `summary.json`: parameters, speed, perplexities;
    - `tables.json`: what stands for tables that were compressed;
    - `checksums.json`: SHA-256 of the files above but the logs.

    Each file is written whole or not at all, and nothing in it is executed when it is read. A
    folder without `checksums.json`, of version 0.1, is read without them.
    """

    def __init__(self, path: Path) -> None:
        self.path = path = Path(path)
        self.config = path / "config.yaml"
        self.vocabulary = path / "vocabulary.txt"
        self.tokenizer = path / "tokenizer.json"
        self.weights = path / "model.safetensors"
        self.checkpoint = path / "checkpoints" / "last.ckpt"
        self.previous_checkpoint = path / "checkpoints" / "previous.ckpt"
        self.summary = path / "summary.json"
        self.tables = path / "tables.json"
        self.checksums = path / "checksums.json"
        self._lock = path / ".lock"
        # Who holds the lock; a process that was killed leaves it.
        self._holder = path / ".holder.json"

    @property
    def begun(self) -> bool:
        """Whether a training was begun here, so that its settings stand."""
        return self.config.exists() and self.vocabulary.exists()

    @property
    def resumable(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self.checkpoint.is_file() or self.previous_checkpoint.is_file()

    @classmethod
    def open(cls, path: Path) -> "Run":
        """A run that has weights.

        Raises:
            FileNotFoundError: If something that a run consists of is missing.
            ValueError: If its settings or vocabulary are not what was written.
        """
        run = cls(path)
        for file in (run.config, run.vocabulary, run.weights):
            if not file.is_file():
                raise FileNotFoundError(f"{run.path} is no trained run: it has no {file.name}.")
        run.check()
        return run

    def check(self, *files: Path) -> None:
        """Checks files that are there against their checksums.

        Args:
            files: Of this folder; settings and vocabulary if omitted.

        Raises:
            ValueError: If one is not what was written; it is named.
        """
        for file in files or (self.config, self.vocabulary, self.tokenizer, self.tables):
            if file.exists() and not file.is_file():
                raise ValueError(f"{file} is no file.")
            if file.is_file() and not (self._is_known(file) or self._is_known(file)):
                raise ValueError(
                    f"{file} is damaged: it is not what was written there (see {self.checksums}; "
                    "who changed it on purpose removes its line there)."
                )

    def _is_known(self, file: Path) -> bool:
        """Whether a file is what was written; ask again: a training may write it meanwhile."""
        expected = self._checksums().get(self._name(file))
        return not expected or checksum(file) in expected

    @contextmanager
    def writing(self, file: Path, keep: Path | None = None) -> Iterator[Path]:
        """Gives the draft of a file, which takes its place with its checksum in the end.

        Args:
            file: Of this folder.
            keep: Where the file that was there goes.
        """
        with atomic_write(file) as draft:
            yield draft
            # Before the files themselves: a kill in between leaves files that are known.
            known, name = self._checksums(), self._name(file)
            old = [checksum(file)] if file.is_file() else []
            old = [digest for digest in old if digest in known.get(name, old)]
            known[name] = [checksum(draft), *old]
            if keep is not None:
                there = known.get(self._name(keep), [])
                known[self._name(keep)] = [*old, *(digest for digest in there if digest not in old)]
            self._write_checksums(known)
            if keep is not None and file.is_file():
                os.replace(file, keep)

    def record(self, *files: Path) -> None:
        """Notes the checksums of files that were written by others."""
        known = self._checksums()
        known |= {self._name(file): [checksum(file)] for file in files if file.is_file()}
        self._write_checksums(known)

    def _write_checksums(self, known: Mapping[str, list[str]]) -> None:
        write_text(self.checksums, json.dumps(known, indent=2) + "\n")

    def _checksums(self) -> dict[str, list[str]]:
        """Known checksums of each file; two while one takes the place of the other."""
        if not self.checksums.is_file():
            return {}
        try:
            known = read_json(self.checksums)
            return {str(name): [str(digest) for digest in found] for name, found in known.items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise ValueError(
                f"{self.checksums} is damaged ({error}): without it, files are not checked."
            ) from error

    def _name(self, file: Path) -> str:
        return file.relative_to(self.path).as_posix()

    @property
    def in_use(self) -> bool:
        """Whether a process trains here now."""
        if not self._holder.exists():
            return False
        lock = FileLock(self._lock)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return True
        except OSError:  # a folder that cannot be written
            return False
        lock.release()
        return False

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes from training here. The lock ends with the process that holds it.

        Raises:
            ValueError: If another process trains here: host, number and start are named.
        """
        lock = FileLock(self._lock)
        try:
            lock.acquire(timeout=1)  # who asks whether it is `in_use` holds it for a moment
        except Timeout:
            raise ValueError(f"{self.path} is in use{_who(self._holder)}.") from None
        try:
            now = datetime.now().astimezone().isoformat(" ", "seconds")
            this = {"host": platform.node(), "process": os.getpid(), "since": now}
            self.write_json(self._holder, this)
            yield
        finally:
            self._holder.unlink(missing_ok=True)
            lock.release()

    def save_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Writes the weights; a reader finds the old file or the new one, never a part."""
        with self.writing(self.weights) as draft:
            save_tensors({name: value.detach().cpu() for name, value in weights.items()}, draft)

    def load_weights(self, model: nn.Module) -> None:
        """Reads the weights into a model of the same configuration.

        Raises:
            ValueError: If names or shapes differ (the first few are named), or the file is damaged.
        """
        model.load_state_dict(self.read_weights(model))

    def read_weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The weights, which fit a model; see :meth:`load_weights`."""
        self.check(self.weights)
        with open_tensors(self.weights) as file:
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if wrong := misfits(saved, model.state_dict()):
            raise ValueError(f"{self.weights} does not fit the model: {wrong}.")
        return saved

    def read_summary(self) -> dict[str, Any]:
        """What training found out; empty where it is not over.

        Raises:
            ValueError: If the file is damaged.
        """
        self.check(self.summary)
        return read_json(self.summary) if self.summary.is_file() else {}

    def write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of this folder, whole or not at all."""
        write_text(file, json.dumps(content, indent=2) + "\n")


def misfits(saved: Mapping[str, Any], state: Mapping[str, Any]) -> str:
    """The first few tensors whose names or shapes differ; empty if there are none."""
    wrong = sorted(
        f"{name}: {tuple(a.shape) if (a := saved.get(name)) is not None else 'missing'} saved, "
        f"{tuple(b.shape) if (b := state.get(name)) is not None else 'none'} in the model"
        for name in saved.keys() | state.keys()
        if name not in saved or name not in state or saved[name].shape != state[name].shape
    )
    return "; ".join(wrong[:3])


def _who(holder: Path) -> str:
    try:
        found = json.loads(holder.read_text("utf-8"))
        return f" by process {found['process']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):  # it has only begun, or just ended
        return " by another process"
