"""The documentation of the running Python: real English that is on every machine."""

import ast
import os
import re
import sys
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from inspect import cleandoc
from itertools import chain
from pathlib import Path
from typing import Literal

from tqdm import tqdm

from define.data.cache import cached
from define.data.corpus import SPLITS, Corpus

__all__ = ["PyDocs", "divide", "documents", "raw_documents", "tokenize"]

# Tests have docstrings that talk to nobody; what is installed differs from machine to machine.
_EXCLUDED = {"site-packages", "dist-packages", "test", "tests", "idle_test", "__pycache__"}

_SHARES = (0.9, 0.05, 0.05)  # of SPLITS, in tokens

# A word keeps its apostrophe (don't) and, as an identifier, its digits and underscores; a run of
# the same sign (>>>, --, ...) is one token, of three signs at most: rulers have any length.
_TOKEN = re.compile(
    r"(?P<word>[^\W\d]\w*(?:'[^\W\d]+)?)|(?P<number>\d\w*(?:\.\d\w*)*)|(?P<sign>[^\w\s])(?P=sign)*"
)


@dataclass(frozen=True)
class PyDocs:
    """The docstrings and help topics of the Python that is running, about 470,000 tokens.

    Docstrings are found by parsing the sources of the standard library, without its tests and
    without importing them; help topics are those of `help("topics")`. Equal docstrings count
    once. Words are in lower case, numbers are `N`, punctuation stands apart, and each paragraph
    is a line. Whole modules and topics go to one split, 90 : 5 : 5 in tokens, spread over the
    library. The text depends on the version of Python alone; it is made once and cached.

    Args:
        vocabulary: See `Text`.
        max_size: The most entries of a vocabulary made from the training text.
        min_count: None: 2, so that `<unk>` is trained.
        cache: See `Text`.
        tokens: See `Text`.
        tokenizer: See `Text`.
        size: See `Text`.
    """

    vocabulary: Path | None = None
    max_size: int | None = 10_000
    min_count: int | None = None
    cache: Path | None = None
    tokens: int | None = None
    tokenizer: Literal["bpe"] | Path | None = None
    size: int = 8000

    def open(self) -> Corpus:
        """The corpus; its parts are built or read when they are first asked for."""
        return Corpus(self)

    def files(self, split: str) -> list[Path]:
        """The files of a split."""
        library = Path(sysconfig.get_path("stdlib"))
        source = {"python": sys.version, "library": str(library)}

        def build(folder: Path) -> None:
            for name, lines in zip(SPLITS, divide(documents(library)), strict=True):
                (folder / f"{name}.txt").write_bytes("".join(f"{x}\n" for x in lines).encode())

        return [cached(self.cache, "pydocs", source, build) / f"{split}.txt"]


def documents(library: Path) -> Iterator[list[str]]:
    """The documents, each a list of tokenized paragraphs: first modules, then help topics."""
    seen: set[str] = set()
    for parts in raw_documents(library):
        new = [part for part in dict.fromkeys(parts) if part not in seen]
        seen.update(new)
        paragraphs = (tokenize(p) for part in new for p in re.split(r"\n\s*\n", part))
        if lines := [line for line in paragraphs if line]:
            yield lines


def raw_documents(library: Path) -> Iterator[list[str]]:
    """The documents, each a list of docstrings as they are written, or a help topic."""
    found = False
    for parts in chain(_modules(library), _topics()):
        found = True
        yield parts
    if not found:
        raise FileNotFoundError(f"{library} has no sources of the standard library to read.")


def divide(documents: Iterator[list[str]]) -> list[list[str]]:
    """Deals documents out to the splits, each to the one that then lacks most of its share."""
    splits: list[list[str]] = [[] for _ in SPLITS]
    sizes, total = [0] * len(SPLITS), 0
    for lines in documents:
        size = sum(line.count(" ") + 2 for line in lines)  # with the line ends
        total += size
        lacks = [share * total - have for share, have in zip(_SHARES, sizes, strict=True)]
        chosen = lacks.index(max(lacks))
        sizes[chosen] += size
        splits[chosen] += lines
    return splits


def tokenize(paragraph: str) -> str:
    """The tokens of a paragraph, separated by spaces; empty where it has no word."""
    tokens, worded = [], False
    for match in _TOKEN.finditer(paragraph.lower()):
        worded = worded or match["word"] is not None
        tokens.append("N" if match["number"] else match[0] if match["word"] else match[0][:3])
    return " ".join(tokens) if worded else ""


def _modules(library: Path) -> Iterator[list[str]]:
    paths: list[Path] = []
    for folder, folders, names in os.walk(library):
        folders[:] = set(folders) - _EXCLUDED  # does not enter them
        paths += (Path(folder, name) for name in names if name.endswith(".py"))
    for path in tqdm(sorted(paths), desc="reading Python's documentation", delay=0.5):
        try:
            tree = ast.parse(path.read_bytes())
        except (SyntaxError, ValueError):  # templates and samples that are no modules
            continue
        yield [*_docstrings(tree)]


def _docstrings(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        if text := ast.get_docstring(node):
            yield text
    for field in ("body", "handlers", "orelse", "finalbody"):
        for child in getattr(node, field, ()):
            yield from _docstrings(child)


def _topics() -> Iterator[list[str]]:
    try:
        from pydoc_data.topics import topics
    except ImportError:  # some distributions leave them out
        return
    for name in sorted(topics):
        yield [cleandoc(topics[name])]
