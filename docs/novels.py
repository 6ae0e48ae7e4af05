"""Writes three texts as novels come from the internet: byte-order mark, CRLF, wrapped lines.

Their prose is that of Python's documentation, which is on every machine:
`python docs/novels.py novels`.
"""

import re
import sys
import sysconfig
import textwrap
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from define.data.pydocs import raw_documents


def paragraphs() -> Iterator[str]:
    """Paragraphs of whole English sentences."""
    for document in raw_documents(Path(sysconfig.get_path("stdlib"))):
        for part in re.split(r"\n\s*\n", "\n\n".join(document)):
            text = " ".join(part.split())
            letters = sum(character.isalpha() or character == " " for character in text)
            if re.match(r"[A-Z]", part) and text.endswith(".") and letters > 0.95 * len(text) > 60:
                text = re.sub(
                    r'"([^"]*)"',
                    "\N{LEFT DOUBLE QUOTATION MARK}\\1\N{RIGHT DOUBLE QUOTATION MARK}",
                    text,
                )
                yield text.replace("'", "\N{RIGHT SINGLE QUOTATION MARK}")


def write_novels(folder: Path, most: int | None = None) -> None:
    """Writes three texts.

    Args:
        folder: Where to; made if it is not there.
        most: Paragraphs of each, about; all that there are if omitted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    parts = [*dict.fromkeys(islice(paragraphs(), None if most is None else 3 * most))]
    for i, title in enumerate(("first", "second", "third")):
        third = parts[i * len(parts) // 3 : (i + 1) * len(parts) // 3]
        lines = [title.upper(), *(textwrap.fill(part, 72) for part in third)]
        text = "\n\n".join(lines).replace("\n", "\r\n")
        (folder / f"{title}.txt").write_bytes(f"\ufeff{text}\r\n".encode())


if __name__ == "__main__":
    write_novels(Path(sys.argv[1]))
