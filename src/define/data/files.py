"""Text files as they are: plain or compressed, with or without a byte-order mark."""

import gzip
import io
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

from tqdm import tqdm

__all__ = [
    "ENDINGS",
    "find_text",
    "naming_damage",
    "open_stream",
    "read_blocks",
    "read_lines",
]

ENDINGS = ("", ".xz", ".gz")
"""What may stand behind the name of a text; the first file that exists is taken."""

_BLOCK = 1 << 20
_MARK = b"\xef\xbb\xbf"  # the byte-order mark of UTF-8, which is no part of the text
_MEMORY = 1 << 30  # bytes that an archive may ask for; those of `xz -9` ask for 65 MB


def find_text(folder: Path, name: str) -> Path:
    """The text of that name in a folder, plain or compressed.

    Raises:
        FileNotFoundError: If there is none; the names that were looked for are given.
    """
    for ending in ENDINGS:
        if (file := folder / f"{name}{ending}").is_file():
            return file
    names = ", ".join(f"{name}{ending}" for ending in ENDINGS)
    raise FileNotFoundError(f"{folder} has no {name}: none of {names} is there.")


def open_stream(file: BinaryIO, name: str) -> BinaryIO:
    """The bytes of an open file, decompressed where its `name` ends with `.xz` or `.gz`."""
    if name.endswith(".xz"):
        return io.BufferedReader(_Xz(file), _BLOCK)
    if name.endswith(".gz"):
        return cast(BinaryIO, gzip.open(file))
    return file


class _Xz(io.RawIOBase):
    """Decompresses all streams of an xz file, with the zeros that may stand between them.

    `lzma.open` takes zeros, or a stream whose header is damaged, for the end of the file.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._input = b""
        self._decoder: lzma.LZMADecompressor | None = lzma.LZMADecompressor(memlimit=_MEMORY)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        while self._decoder is not None:
            data = b""
            if self._decoder.needs_input:
                data, self._input = self._input or self._file.read(_BLOCK), b""
                if not data:
                    raise EOFError("it ends in the middle of a stream")
            found = self._decoder.decompress(data, len(buffer))
            if self._decoder.eof:
                self._input = self._decoder.unused_data
                self._decoder = self._next_stream()
            if found:
                buffer[: len(found)] = found
                return len(found)
        return 0

    def _next_stream(self) -> lzma.LZMADecompressor | None:
        zeros = 0
        while data := self._input or self._file.read(_BLOCK):
            self._input = data.lstrip(b"\0")
            zeros += len(data) - len(self._input)
            if self._input:
                break
        if zeros % 4:
            raise lzma.LZMAError(f"{zeros} zeros follow a stream, which is no multiple of 4")
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, _MEMORY) if self._input else None


@contextmanager
def naming_damage(path: Path) -> Iterator[None]:
    """Turns the nameless errors of a damaged archive into a `ValueError` that names the file."""
    try:
        yield
    except (EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error) as error:
        raise ValueError(f"{path} is a damaged or incomplete archive: {error}") from error


def read_blocks(path: Path, title: str, size: int = _BLOCK) -> Iterator[bytes]:
    r"""Reads a text in blocks of about `size` bytes, cut at line ends, with a progress bar.

    A line longer than a block is cut at a space, so that memory is bounded whatever the text.
    The last block ends with `\n` even where the file does not.

    Raises:
        ValueError: If the file holds nothing but white space, or is a damaged archive.
    """
    with path.open("rb") as file, naming_damage(path), open_stream(file, path.name) as stream:
        total = path.stat().st_size  # progress counts bytes of the file, compressed or not
        with tqdm(total=total, desc=title, unit="B", unit_scale=True, delay=0.5) as bar:
            rest, empty, last = b"", True, b"\n"
            first = stream.read(len(_MARK)).removeprefix(_MARK)
            while chunk := first + stream.read(size):
                first = b""
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


def read_lines(path: Path) -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file; only `\n` and `\r\n` end a line.

    Raises:
        ValueError: If a line is not UTF-8 (file and line are named), or it is a damaged archive.
    """
    with path.open("rb") as file, naming_damage(path), open_stream(file, path.name) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1 and not (line := line.removeprefix(_MARK)):
                return
            try:
                yield line.decode().removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8: {error}") from error
