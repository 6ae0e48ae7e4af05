"""From a text to ids, block by block in constant memory."""

import hashlib
import re
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from define.data.files import read_blocks
from define.data.subwords import Subwords
from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary, split_words

__all__ = [
    "SubwordIds",
    "WordIds",
    "learn_subword_ids",
    "learn_word_ids",
    "read_words",
    "renumber",
    "write_ids",
]

_CHUNK = 1 << 22  # ids that are renumbered at a time
_WORD = re.compile(rb"\n|[^ \t\n\r\x0b\x0c]+")


class WordIds:
    """Turns the words of a text into their ids in a vocabulary, line ends into that of `<eos>`.

    Raises:
        ValueError: If the vocabulary has no `<eos>`.
        KeyError: When it is called, for a word that is not there while `<unk>` is not either.
    """

    def __init__(self, vocabulary: Vocabulary) -> None:
        if END_OF_LINE not in vocabulary:
            raise ValueError(
                f"The vocabulary of {len(vocabulary)} words has no {END_OF_LINE!r}, which ends "
                "every line of a text: add it."
            )
        words = [word.encode() for word in vocabulary.words]
        self._ids = _Ids(zip(words, range(len(words)), strict=True))
        self._ids.unknown = self._ids.get(UNKNOWN.encode())

    @property
    def replaced(self) -> int:
        return self._ids.missing

    def __call__(self, block: bytes) -> tuple[np.ndarray, int]:
        words = split_words(block)
        return np.array(array("i", map(self._ids.__getitem__, words))), len(words)


class _Ids(dict[bytes, int]):
    """A table of ids in which a missing word has the id `unknown`, if that is there."""

    unknown: int | None = None
    missing = 0

    def __missing__(self, word: bytes) -> int:
        if self.unknown is None:
            raise KeyError(word)
        self.missing += 1
        return self.unknown


class _WordNumbers:
    """Numbers the words of a text in the order of their first use."""

    replaced = 0

    def __init__(self) -> None:
        self.table: defaultdict[bytes, int] = defaultdict()
        self.table.default_factory = self.table.__len__  # a missing word gets the next number

    def __call__(self, block: bytes) -> tuple[np.ndarray, int]:
        words = split_words(block)
        return np.array(array("i", map(self.table.__getitem__, words))), len(words)


class SubwordIds:
    """Turns the lines of a text into ids of subwords."""

    def __init__(self, subwords: Subwords) -> None:
        self._subwords = subwords
        self.replaced = 0

    def __call__(self, block: bytes) -> tuple[np.ndarray, int]:
        ids = np.array(self._subwords.encode_text(block.decode()), np.int32)
        self.replaced += int((ids == self._subwords.unknown).sum())
        return ids, len(block.split()) + block.count(b"\n")


Encoder = WordIds | _WordNumbers | SubwordIds


def write_ids(
    files: Iterable[Path], encode: Encoder, target: Path, words: int | None = None
) -> tuple[dict[str, Any], np.ndarray]:
    """Writes the ids of a text into `target`, int32 in the order of this machine's bytes.

    Args:
        files: The text, one file after the other.
        encode: Gives the int32 numbers of a block of text, and how many words that has.
        target: Where they are written.
        words: The most words of the text to take, line ends counted. None: all.

    Returns:
        Facts about what was written, and how often each id occurs. The facts: `digest` of the ids;
        `words` of the text, with one for each line end; `characters`, which are those of its words,
        one space behind each, and one for each line end; `replaced`, the words that became `<unk>`.

    Raises:
        ValueError: If a file is empty or not UTF-8, or has a word that the vocabulary lacks while
            it lacks `<unk>` too (file and line are named).
    """
    facts = {"words": 0, "characters": 0}
    digest, counts = hashlib.sha256(), np.zeros(0, np.int64)
    with target.open("wb") as sink:
        for file, line, block in read_words(files, words):
            try:
                ids, number = encode(block)
            except KeyError as error:
                word = error.args[0].strip()
                line += next(n for n, x in enumerate(block.split(b"\n")) if word in x.split())
                raise ValueError(
                    f"{file}, line {line}: {word.decode()!r} is not in the vocabulary, and neither "
                    f"is {UNKNOWN!r}, which would stand for it: add {UNKNOWN!r} to the vocabulary."
                ) from None
            white = len(block) - len(block.translate(None, b" \t\n\r\x0b\x0c"))
            facts["words"] += number
            facts["characters"] += len(block.decode()) - white + number
            data = ids.tobytes()
            digest.update(data)
            sink.write(data)  # numpy's `tofile` does not notice a full disk
            tally = np.bincount(ids, minlength=len(counts))
            tally[: len(counts)] += counts
            counts = tally
    return {"digest": digest.hexdigest()[:16], **facts, "replaced": encode.replaced}, counts


def read_words(files: Iterable[Path], words: int | None) -> Iterator[tuple[Path, int, bytes]]:
    """Yields the blocks of a text, each with its file and the number of its first line.

    Args:
        files: See `write_ids`.
        words: See `write_ids`.

    Raises:
        ValueError: If a file is empty or not UTF-8 (file and line are named).
    """
    for file in files:
        line = 1
        for block in read_blocks(file, f"reading {file.name}"):
            try:
                block.decode()
            except UnicodeDecodeError as error:
                line += block.count(b"\n", 0, error.start)
                raise ValueError(f"{file}, line {line}: not UTF-8: {error}.") from error
            if words is not None:
                found = len(block.split()) + block.count(b"\n")
                if found >= words:
                    ends = (word.end() for word in _WORD.finditer(block))
                    yield file, line, block[: next(islice(ends, words - 1, None))]
                    return
                words -= found
            yield file, line, block
            line += block.count(b"\n")


def renumber(path: Path, numbers: np.ndarray) -> str:
    """Replaces each id i in a file by `numbers[i]`; returns a digest of the new ids."""
    digest = hashlib.sha256()
    with path.open("r+b") as file:
        while old := file.read(4 * _CHUNK):
            new = numbers[np.frombuffer(old, np.int32)].astype(np.int32).tobytes()
            file.seek(-len(new), 1)
            file.write(new)
            digest.update(new)
    return digest.hexdigest()[:16]


def learn_word_ids(
    files: Iterable[Path],
    choose: Callable[[Mapping[str, int]], Vocabulary],
    target: Path,
    words: int | None = None,
) -> tuple[Vocabulary, dict[str, Any]]:
    """Makes a vocabulary from a text and writes the ids of the text, reading it only once.

    Looking words up is what takes the time. So words get numbers as they come; once all counts are
    known, the numbers in the file are replaced by ids.

    Args:
        files: See `write_ids`.
        choose: Makes the vocabulary from the counts of words; each line end counts as `<eos>`.
        target: See `write_ids`.
        words: See `write_ids`.

    Returns:
        The vocabulary, and the facts of `write_ids`.
    """
    number = _WordNumbers()
    facts, counts = write_ids(files, number, target, words)
    found = [word.decode() for word in number.table]
    # A text that is cut off before the end of its first line has no line end.
    vocabulary = choose({END_OF_LINE: 0, **dict(zip(found, counts.tolist(), strict=True))})
    known = np.array([word in vocabulary for word in found])
    facts["replaced"] = int(counts[~known].sum())
    facts["digest"] = renumber(target, np.array(vocabulary.encode(found), np.int32))
    return vocabulary, facts


def learn_subword_ids(
    files: Iterable[Path], subwords: Subwords, target: Path, words: int | None = None
) -> tuple[Subwords, dict[str, Any]]:
    """Writes the ids of a text, numbered by how often they occur in it.

    Args:
        files: See `write_ids`.
        subwords: What makes ids of it.
        target: See `write_ids`.
        words: See `write_ids`.

    Returns:
        The subwords with their new ids, sorted by falling frequency, and the facts of `write_ids`.
    """
    facts, found = write_ids(files, SubwordIds(subwords), target, words)
    counts = np.zeros(len(subwords), np.int64)
    counts[: len(found)] = found
    order = np.argsort(-counts, kind="stable")
    numbers = np.empty_like(order)
    numbers[order] = np.arange(len(order))
    facts["digest"] = renumber(target, numbers)
    return subwords.renumbered(order), facts
