"""Texts that may be large: found by name, plain or compressed, and read in blocks."""

from collections.abc import Iterator
from pathlib import Path

from tqdm import tqdm

from define.readers import BYTE_ORDER_MARK, naming_damage, open_stream

__all__ = ["ENDINGS", "find_text", "read_blocks"]

ENDINGS = ("", ".xz", ".gz")
"""What may stand behind the name of a text; the first file that exists is taken."""

_BLOCK = 1 << 20


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
            first = stream.read(len(BYTE_ORDER_MARK)).removeprefix(BYTE_ORDER_MARK)
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
