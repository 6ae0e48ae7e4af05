"""Folders of derived files: built once, whole or not there, kept for the next start."""

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from define.files import write_text

__all__ = ["cache_folder", "cached", "read_note"]

_FORMAT = 2  # part of every key: raise it when the files' layout or the tokenization changes
_NOTE = "source.json"


def cache_folder(cache: Path | None = None) -> Path:
    """`cache`, or `$DEFINE_CACHE`, or `$XDG_CACHE_HOME/define`, or `~/.cache/define`."""
    if cache is not None:
        return Path(cache)
    if folder := os.environ.get("DEFINE_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "define"


def cached(
    cache: Path | None,
    name: str,
    source: Mapping[str, object],
    build: Callable[[Path], Mapping[str, object] | None],
) -> Path:
    """The folder with what `build` makes from `source`; built when it is not there.

    Built under a temporary name and renamed as a whole: a killed run leaves nothing that counts.
    A second process that wants the same waits and finds it done. What killed runs left is removed.

    Args:
        cache: See `cache_folder`.
        name: What it is, for a person who looks into the cache.
        source: What it is made from; the folder is named by a digest of this. Noted in
            `source.json` in the folder, beside what `build` returns and the files' sizes.
        build: Writes files into the empty folder given to it and may return facts to note.
    """
    source = {**source, "format": _FORMAT}
    digest = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()[:16]
    folder = cache_folder(cache) / f"{name}-{digest}"
    if _is_whole(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f"{folder.name}.lock")):
        if _is_whole(folder):  # another process was first
            return folder
        for leftover in folder.parent.glob(f"{folder.name}.*.tmp"):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)  # damaged, or it would be whole
        draft = folder.with_name(f"{folder.name}.{os.getpid()}.tmp")
        draft.mkdir()
        try:
            facts = build(draft) or {}
            sizes = {path.name: path.stat().st_size for path in sorted(draft.iterdir())}
            note = {"source": source, **facts, "files": sizes}
            write_text(draft / _NOTE, json.dumps(note, indent=2) + "\n")
            os.replace(draft, folder)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return folder


def read_note(folder: Path) -> dict[str, Any]:
    """What `cached` noted about a folder: its source, facts and sizes of files."""
    return json.loads((folder / _NOTE).read_text("utf-8"))


def _is_whole(folder: Path) -> bool:
    try:
        sizes = read_note(folder)["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError):
        return False
