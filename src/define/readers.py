"""Files of others: whatever is in them, an error names the file, and nothing is executed."""

import gzip
import io
import json
import lzma
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

if TYPE_CHECKING:
    import numpy as np

__all__ = [
    "BYTE_ORDER_MARK",
    "naming_damage",
    "open_stream",
    "open_tensors",
    "read_array",
    "read_json",
    "read_lines",
    "read_text",
    "read_yaml",
]

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""That of UTF-8, which may begin a text and is no part of it."""

_BLOCK = 1 << 20
_VALUES = 100_000  # of a YAML file; settings have a hundred
_MEMORY = 1 << 30  # bytes that an archive may ask for; those of `xz -9` ask for 65 MB


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


def read_lines(path: Path, errors: str = "strict") -> Iterator[str]:
    r"""Yields the lines of a UTF-8 file; only `\n` and `\r\n` end a line.

    It may be compressed (`.xz`, `.gz`), and begin with a byte-order mark.

    Args:
        path: The file.
        errors: What becomes of bytes that are not UTF-8, see `bytes.decode`.

    Raises:
        ValueError: If a line is not UTF-8 (file and line are named), or it is a damaged archive.
    """
    with path.open("rb") as file, naming_damage(path), open_stream(file, path.name) as stream:
        for number, line in enumerate(stream, 1):
            if number == 1 and not (line := line.removeprefix(BYTE_ORDER_MARK)):
                return
            try:
                yield line.decode(errors=errors).removesuffix("\n").removesuffix("\r")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}, line {number}: not UTF-8: {error}") from error


def read_text(path: Path) -> str:
    r"""The text of a UTF-8 file, with `\n` at line ends.

    Raises:
        FileNotFoundError: If there is no such file: what others fill, a pipe or a device, may never
            end.
        ValueError: As `read_lines`.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"{path} is no file.")
    return "\n".join(read_lines(Path(path)))


def read_json(path: Path) -> Any:  # noqa: ANN401
    """What a JSON file holds.

    Raises:
        ValueError: If it is none; the file is named.
    """
    return _parsed(path, "JSON", json.loads)


def read_yaml(path: Path) -> Any:  # noqa: ANN401
    """What a YAML file holds: numbers, strings, lists and mappings; other objects are an error.

    Raises:
        ValueError: If it is none; the file is named.
    """
    return _parsed(path, "YAML", _load_yaml)


def _load_yaml(text: str) -> Any:  # noqa: ANN401
    import yaml  # of jsonargparse

    loader = yaml.SafeLoader(text)
    try:
        node = loader.get_single_node()
        if node is None:
            return None
        if _written_out(node, {}) > _VALUES:
            raise ValueError(f"written out, its aliases make more than {_VALUES:,} values")
        return loader.construct_document(node)
    finally:
        loader.dispose()


def _written_out(node: Any, sizes: dict[Any, float]) -> float:  # noqa: ANN401
    """Values in a YAML node where each alias is written out; infinite in a circle."""
    if isinstance(node.value, str):
        return 1
    if node not in sizes:
        sizes[node] = float("inf")  # for aliases within it
        parts = [x for part in node.value for x in (part if isinstance(part, tuple) else (part,))]
        sizes[node] = 1 + sum(_written_out(part, sizes) for part in parts)
    return sizes[node]


def _parsed(path: Path, kind: str, parse: Any) -> Any:  # noqa: ANN401
    text = read_text(path)
    try:
        return parse(text)
    except RecursionError:
        raise ValueError(f"{path} is damaged or not {kind}: it is nested too deep.") from None
    except Exception as error:  # of dates and numbers that are none, too
        raise ValueError(f"{path} is damaged or not {kind}: {error}") from error


@contextmanager
def open_tensors(path: Path) -> Iterator[Any]:
    """Opens a safetensors file as `safetensors.safe_open` does, for tensors of torch.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, also where a tensor that is read from it is; it is named.
    """
    from safetensors import SafetensorError, safe_open

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"{path} is damaged or not a whole safetensors file: {error}{_hint(path)}"
        ) from error


def read_array(path: Path) -> "np.ndarray":
    """The array of a `.npy` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, or holds Python objects; it is named.
    """
    import numpy as np  # of the extra for training

    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path} is no file.")
    try:
        # Mapped first: a header that claims more than the file holds asks for no memory.
        array = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # numpy raises a dozen kinds, down to errors of a tokenizer
        raise ValueError(f"{path} is no array of numbers: {error}{_hint(path)}") from error
    long = array.dtype.kind == "f" and array.dtype.itemsize > 8  # torch has no longer ones
    return np.array(array, np.float64 if long else array.dtype.newbyteorder("="))


def _hint(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(20) != b"version https://git-":
            return ""
    return ". It is a pointer of Git LFS: `git lfs pull` fetches the file"
