"""Text files, plain or compressed."""

import gzip
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tqdm import tqdm

ENDINGS = (".txt", ".txt.xz", ".txt.gz")
"""What the name of a split's file may end with; the first that exists is taken."""

_BLOCK = 1 << 20


def file_identity(path: Path) -> dict[str, object]:
    """What tells a file and its content from others without reading it."""
    path = path.resolve()
    status = path.stat()
    return {"path": str(path), "size": status.st_size, "mtime_ns": status.st_mtime_ns}


def open_stream(file: BinaryIO, name: str) -> BinaryIO:
    """The bytes of an open file, decompressed where its ``name`` ends with ``.xz`` or ``.gz``."""
    if name.endswith(".xz"):
        return cast(BinaryIO, lzma.open(file))
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(file))
    return file


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turn the nameless errors of a damaged archive into a `ValueError` that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or incomplete archive: {error}") from error


def read_blocks(path: Path, title: str, size: int = _BLOCK) -> Iterator[bytes]:
    r"""Read a text in blocks of about ``size`` bytes, cut at line ends, with a progress bar.

    A line longer than a block is cut at a space, so that memory is bounded whatever the text.
    The last block ends with ``\n`` even where the file does not.

    Raises:
        ValueError: If the file holds nothing but white space, or is a damaged archive.
    """
    with path.open("rb") as file, naming_damage(path), open_stream(file, path.name) as stream:
        total = path.stat().st_size  # progress counts bytes of the file, compressed or not
        with tqdm(total=total, desc=title, unit="B", unit_scale=True, delay=0.5) as bar:
            rest, empty, last = b"", True, b"\n"
            while chunk := stream.read(size):
                chunk = rest + chunk
                end = chunk.rfind(b"\n") + 1 or chunk.rfind(b" ") + 1
                rest = chunk[end:]
                empty, last = empty and chunk.isspace(), chunk[-1:]
                if end:
                    yield chunk[:end]
                bar.update(file.tell() - bar.n)
            if last != b"\n":
                yield rest + b"\n"
            if empty:
                raise ValueError(f"{path} is empty: it has no words.")


def read_lines(path: Path) -> list[str]:
    r"""The lines of a small UTF-8 file, plain or compressed; only ``\n`` and ``\r\n`` end a line.

    Raises:
        ValueError: If it is not UTF-8 (file and line named), or a damaged archive.
    """
    with path.open("rb") as file, naming_damage(path), open_stream(file, path.name) as stream:
        content = stream.read()
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ValueError(f"{path}, line {line}: not UTF-8: {error}") from error
    lines = [line.removesuffix("\r") for line in text.split("\n")]
    return lines if lines[-1] else lines[:-1]
