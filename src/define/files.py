"""Files that are whole or not there: every file that the project writes is written here."""

import hashlib
import itertools
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "abandoned",
    "atomic_write",
    "check_place",
    "checksum",
    "draft_of",
    "new_folder",
    "save_tensors",
    "write_bytes",
    "write_text",
]

_HOST = hashlib.sha256(platform.node().encode()).hexdigest()[:8]
_FOREIGN = 24 * 3600  # seconds after which a draft of another machine counts as abandoned
_DRAFT = re.compile(r"(.+)\.([0-9a-f]+)-(\d+)-\d+\.(?:partial|tmp)")
_numbers = itertools.count()
_writing: set[Path] = set()  # drafts of this process


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Gives the path of a draft to write; `path` becomes what is in it when the block ends.

    A reader finds the old file or the new one, never a part, also after a kill, a full disk or a
    loss of power: the draft lies in the same folder, is synced to the disk and renamed, then the
    folder is synced. An error in the block removes the draft and leaves the old file. What killed
    processes left of earlier drafts is removed. The mode is what the umask gives, whatever the
    writer chose. What is not a regular file (`/dev/stdout`) is written directly.

    Args:
        path: The file. Its folder must be there. A symbolic link stays one: its target is written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_write(Path(folder) / "numbers") as draft:
        ...         written = draft.write_bytes(b"1 2 3")
        ...     [file.name for file in Path(folder).iterdir()]
        ['numbers']
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        yield path
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path} cannot be written: {path.parent} is no folder.")
    for old in abandoned(path.parent, path.name):
        with suppress(OSError):  # of another user
            old.unlink()
    with draft_of(path, "partial") as draft:
        try:
            with draft.open("wb") as file:
                mode = os.fstat(file.fileno()).st_mode
            yield draft
            with draft.open("r+b") as file:
                os.fsync(file.fileno())
            draft.chmod(mode & 0o777)
            os.replace(draft, path)
            _sync_folder(path.parent)
        finally:
            draft.unlink(missing_ok=True)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Gives the path of a folder to make; it becomes `path` when the block ends without error.

    Raises:
        ValueError: If `path` is there already.
        OSError: If something cannot be written, also where safetensors says so.
    """
    if os.path.lexists(path):
        raise ValueError(f"{path} exists already: name another folder.")
    path = path.absolute()
    check_place(path.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    for old in abandoned(path.parent, path.name):
        shutil.rmtree(old, ignore_errors=True)
    with draft_of(path, "partial") as draft:
        try:
            yield draft
            os.rename(draft, path)
        except Exception as error:
            if str(error).startswith("Error while serializing"):  # safetensors': a full disk
                raise OSError(f"{path} cannot be written: {error}.") from error
            raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_place(path: Path) -> None:
    """Checks, before hours are spent, that `path` is a folder to write into, or can become one.

    Raises:
        OSError: If it cannot; what is in its way is named.
    """
    path = path.absolute()
    place = next(place for place in (path, *path.parents) if os.path.lexists(place))
    if not place.is_dir():
        raise NotADirectoryError(f"{path} cannot be made: {place} is no folder.")
    now = os.access in os.supports_effective_ids  # as whom the process acts
    if not os.access(place, os.W_OK | os.X_OK, effective_ids=now):
        raise PermissionError(f"{path} cannot be written: you may not write to {place}.")


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file; it is whole or as it was before. See `atomic_write`."""
    with atomic_write(path) as draft:
        draft.write_bytes(content)


def write_text(path: str | os.PathLike[str], content: str) -> None:
    r"""Writes a UTF-8 file with `\n` at line ends; it is whole or as it was before."""
    write_bytes(path, content.encode())


def save_tensors(tensors: Mapping[str, "Tensor"], draft: Path) -> None:
    """Writes a safetensors file; the draft of one, so that it is whole or not there.

    Raises:
        OSError: If it cannot be written: the disk is full, for example.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, draft)
    except SafetensorError as error:
        raise OSError(f"{draft} cannot be written: {error}.") from error


def checksum(path: str | os.PathLike[str]) -> str:
    """The SHA-256 of a file, in hexadecimal digits; read in constant memory."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def draft_of(path: Path, ending: str) -> Iterator[Path]:
    """A name beside `path` for what is to become it; what is there in the end is left to others."""
    draft = path.with_name(f"{path.name}.{_HOST}-{os.getpid()}-{next(_numbers)}.{ending}")
    _writing.add(draft)
    try:
        yield draft
    finally:
        _writing.discard(draft)


def abandoned(folder: Path, name: str | None = None) -> list[Path]:
    """Drafts in a folder whose process is gone; of one name, if it is given."""
    drafts = []
    with suppress(OSError):  # a folder that cannot be listed, or a draft that has just gone
        for draft in folder.iterdir():
            found = _DRAFT.fullmatch(draft.name)
            if found and name in (None, found[1]) and draft not in _writing:
                if _is_abandoned(draft, found[2], int(found[3])):
                    drafts.append(draft)
    return drafts


def _is_abandoned(draft: Path, host: str, process: int) -> bool:
    if host != _HOST or os.name == "nt":  # whether its process lives cannot be asked
        return time.time() - draft.stat().st_mtime > _FOREIGN
    if process == os.getpid():  # of an earlier process with this number: ours are in `_writing`
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except PermissionError:  # it lives and is another user's
        return False
    return False


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # systems that cannot open a folder
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
