"""Folders of derived files: built once, whole or not there, kept for the next start."""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock

from define.files import abandoned, checksum, draft_of, write_text

__all__ = ["cache_folder", "cached", "content", "read_note"]

_FORMAT = 5  # part of every key: raise it when the files' layout or the tokenization changes
_NOTE = "source.json"
_YOUNG = 2_000_000_000  # ns in which a file may change again without another time of change

logger = logging.getLogger("define")
_checked: set[tuple[object, ...]] = set()  # folders of which this process read every byte


def cache_folder(cache: Path | None = None) -> Path:
    """`cache`, or `$DEFINE_CACHE`, or `$XDG_CACHE_HOME/define`, or `~/.cache/define`.

    Raises:
        FileNotFoundError: If none of them is given and there is no home folder.
    """
    if cache is not None:
        return Path(cache)
    if folder := os.environ.get("DEFINE_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "define"
    try:
        return Path.home() / ".cache" / "define"
    except RuntimeError as error:
        raise FileNotFoundError(
            "There is no home folder to keep ids of texts in: name a folder in $DEFINE_CACHE."
        ) from error


def content(path: Path, cache: Path | None = None) -> dict[str, str]:
    """What tells the content of a file from that of others: a part of the source of `cached`.

    A digest of every byte, so that no other text is taken for this one. It is remembered for as
    long as path, size, times and inode stay, so that a large file is not read at each start.

    Args:
        path: The file.
        cache: See `cache_folder`.
    """
    path = path.resolve()
    status = path.stat()
    identity = [str(path), status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
    name = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:16]
    memory = cache_folder(cache) / "sources" / f"{name}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = json.loads(memory.read_text("utf-8"))
        if known["identity"] == identity:
            return {"sha256": known["sha256"], "kind": path.suffix}
    found = {"sha256": checksum(path), "kind": path.suffix}
    if time.time_ns() - max(status.st_mtime_ns, status.st_ctime_ns) > _YOUNG:
        with suppress(OSError, UnicodeEncodeError):  # then it is read again at the next start
            memory.parent.mkdir(parents=True, exist_ok=True)
            write_text(memory, json.dumps({"identity": identity, **found}))
    return found


def cached(
    cache: Path | None,
    name: str,
    source: Mapping[str, object],
    build: Callable[[Path], Mapping[str, object] | None],
) -> Path:
    """The folder with what `build` makes from `source`; built when it is not there or damaged.

    Built under a temporary name and renamed as a whole: a killed run leaves nothing that counts.
    A second process that wants the same waits and finds it done. What killed runs left is removed.
    Every file is compared with its checksum when a process first asks for it.

    Args:
        cache: See `cache_folder`.
        name: What it is, for a person who looks into the cache.
        source: What it is made from; the folder is named by a digest of this. Noted in
            `source.json` in the folder, beside what `build` returns and the files' checksums.
        build: Writes files into the empty folder given to it and may return facts to note.

    Raises:
        PermissionError: If the cache's folder cannot be written.
    """
    source = {**source, "format": _FORMAT}
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder(cache) / f"{name}-{digest}"
    if _is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            if not _is_whole(folder):  # else another process was first
                _build(folder, source, build)
    except PermissionError as error:
        raise PermissionError(
            f"{error.filename or folder.parent} cannot be written: name another folder for ids of "
            "texts in $DEFINE_CACHE."
        ) from error
    return folder


def _build(
    folder: Path,
    source: Mapping[str, object],
    build: Callable[[Path], Mapping[str, object] | None],
) -> None:
    if folder.exists():
        logger.warning("%s is damaged and is built again.", folder)
        shutil.rmtree(folder)
    for leftover in abandoned(folder.parent):  # of any text: that one may never come again
        shutil.rmtree(leftover, ignore_errors=True)
    with draft_of(folder, "tmp") as draft:
        draft.mkdir()
        try:
            facts = build(draft) or {}
            sums = {path.name: checksum(path) for path in sorted(draft.iterdir())}
            note = {"source": source, **facts, "files": sums}
            note["checksum"] = _digest(note)
            write_text(draft / _NOTE, json.dumps(note, indent=2) + "\n")
            try:
                os.replace(draft, folder)
            except OSError:
                if not _is_whole(folder):  # else another user was first
                    raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keeps other processes out; a kill lets them in."""
    path = folder.with_name(f"{folder.name}.lock")
    lock = FileLock(path, mode=0o666)  # others of a shared cache may take it
    try:
        lock.acquire()
    except PermissionError:
        # It is of a user who did not let others write it. Two users may then build the same; both
        # end well.
        lock = FileLock(path.with_name(f"{path.name}.{os.getuid()}"))
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def read_note(folder: Path) -> dict[str, Any]:
    """What `cached` noted about a folder: its source, facts and checksums of files.

    Raises:
        ValueError: If it is damaged.
    """
    note = json.loads((folder / _NOTE).read_text("utf-8"))
    if note.pop("checksum") != _digest(note):
        raise ValueError(f"{folder / _NOTE} is damaged: it is not what was written there.")
    return note


def _digest(note: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(note).encode()).hexdigest()


def _is_whole(folder: Path) -> bool:
    try:
        sums = read_note(folder)["files"]
        files = [(folder / name).stat() for name in sums]
        key = (folder, *sums.values(), *((s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in files))
        if key not in _checked and all(checksum(folder / name) == sums[name] for name in sums):
            _checked.add(key)
        return key in _checked
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False
