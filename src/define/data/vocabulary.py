"""The words of a model and their ids."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from pathlib import Path

from define.files import write_bytes
from define.readers import read_lines

__all__ = ["END_OF_LINE", "LITERAL_END", "UNKNOWN", "Vocabulary", "split_words"]

UNKNOWN = "<unk>"
"""Stands for every word that a vocabulary does not hold."""

END_OF_LINE = "<eos>"
"""Stands at the end of every line of a text."""

LITERAL_END = f"{END_OF_LINE} "
"""What `<eos>` is called where it is written in a text: it is a word that no vocabulary holds."""

_COUNTED = re.compile(r"(.+) [0-9]+( #fairseq:overwrite)?")
_END, _LITERAL = END_OF_LINE.encode(), LITERAL_END.encode()
_WORD = re.compile(rb"\n|[^ \t\n\r\x0b\x0c]+")
# What separates words, in the sense of bytes.split(): other spaces of Unicode are part of a word.
_SEPARATOR = re.compile(r"[ \t\n\r\x0b\x0c]")


class Vocabulary:
    """An immutable list of distinct words; the id of a word is its place in it.

    Args:
        words: The words in the order of their ids. Adaptive embeddings and softmaxes expect them
            sorted by falling frequency, as `from_counts` does.

    Raises:
        ValueError: If a word is twice in the list, empty, or holds a space; it is named.
    """

    def __init__(self, words: Iterable[str]) -> None:
        self._words = tuple(words)
        self._ids = {word: number for number, word in enumerate(self._words)}
        if len(self._ids) != len(self._words):
            number = next(n for n, word in enumerate(self._words) if self._ids[word] != n)
            word = self._words[number]
            raise ValueError(f"{word!r} has two ids, {number} and {self._ids[word]}.")
        if "" in self._ids or _SEPARATOR.search("".join(self._words)):
            number, word = next(
                (n, word)
                for n, word in enumerate(self._words)
                if not word or _SEPARATOR.search(word)
            )
            raise ValueError(f"Word {number}, {word!r}, is empty or holds a space.")

    @classmethod
    def from_counts(
        cls, counts: Mapping[str, int], *, max_size: int | None = None, min_count: int = 1
    ) -> "Vocabulary":
        """Takes the most frequent words, sorted by falling frequency, ties alphabetically.

        `<unk>` is always there, at the place of its own count plus those of all words left out;
        `<eos>` is kept whatever its count where it has one.

        Args:
            counts: How often each word occurs.
            max_size: The most entries, `<unk>` among them. None: no limit.
            min_count: Words that occur less often are left out.

        Raises:
            ValueError: If `max_size` leaves no room for `<unk>` and `<eos>`, or
                `min_count` is below 1.
        """
        kept = {word: counts[word] for word in (UNKNOWN, END_OF_LINE) if word in counts}
        kept.setdefault(UNKNOWN, 0)
        if max_size is not None and max_size < len(kept):
            raise ValueError(f"{max_size=} must be at least {len(kept)}: it counts {[*kept]}.")
        if min_count < 1:
            raise ValueError(f"{min_count=} must be at least 1.")
        skipped = {*kept, LITERAL_END}
        words = (w for w, count in counts.items() if count >= min_count and w not in skipped)
        ranked = sorted(words, key=lambda word: (-counts[word], word))
        room = None if max_size is None else max_size - len(kept)
        kept.update((word, counts[word]) for word in ranked[:room])
        kept[UNKNOWN] += sum(counts.values()) - sum(kept.values())
        return cls(sorted(kept, key=lambda word: (-kept[word], word)))

    @classmethod
    def read(cls, path: Path) -> "Vocabulary":
        """Reads a list of words, one a line, or a dictionary of fairseq, lines `word count`.

        A plain list is taken as it is. A fairseq dictionary (`dict.txt`) leaves `<unk>` and
        `<eos>` implicit, so they are put in front, and is filled up with `madeupword0001` and
        so on to a round size, which are dropped; a line that ends with `#fairseq:overwrite` takes
        the place of an earlier one of the same word. Either may be compressed (`.xz`, `.gz`).

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is empty, not UTF-8, or has a word twice; the file is named.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"The vocabulary {path} is no file.")
        words = [*read_lines(path)]
        if not any(words):
            raise ValueError(f"The vocabulary {path} is empty.")
        counted = [_COUNTED.fullmatch(line) for line in words]
        if all(counted):
            words = []
            for word, again in (line.groups() for line in counted if line is not None):
                if again and word in words:
                    words.remove(word)  # this line takes its place
                if not re.fullmatch(r"madeupword\d+", word):
                    words.append(word)
            words = [word for word in (UNKNOWN, END_OF_LINE) if word not in words] + words
        try:
            return cls(words)
        except ValueError as error:
            raise ValueError(f"The vocabulary {path}: {error}") from error

    def write(self, path: Path) -> None:
        """Writes one word a line, in the order of the ids; the file is whole or not there."""
        write_bytes(path, "".join(f"{word}\n" for word in self._words).encode())

    @property
    def words(self) -> tuple[str, ...]:
        """The words in the order of their ids."""
        return self._words

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the words and their order: equal where the ids mean the same."""
        return hashlib.sha256("\n".join(self._words).encode()).hexdigest()[:16]

    def encode(self, words: Iterable[str]) -> list[int]:
        """The ids of words; a word that is not there gets the id of `<unk>`.

        Raises:
            ValueError: If a word is not there and neither is `<unk>`.
        """
        unknown = self._ids.get(UNKNOWN)
        ids = []
        for word in words:
            number = self._ids.get(word, unknown)
            if number is None:
                raise ValueError(
                    f"{word!r} is not among the {len(self)} words, and neither is {UNKNOWN!r}, "
                    f"which would stand for it: add {UNKNOWN!r} to the vocabulary."
                )
            ids.append(number)
        return ids

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The words of ids.

        Raises:
            IndexError: If an id is negative or not below the number of words; both are named.
        """
        words = []
        for number in ids:
            if not 0 <= number < len(self):
                raise IndexError(f"id {number} is outside of a vocabulary of {len(self)} words.")
            words.append(self._words[number])
        return words

    def encode_text(self, text: str) -> list[int]:
        r"""The ids of a text as in training; each `\n` ends a line.

        Raises:
            ValueError: If a word, or the end of a line, is not there and neither is `<unk>`.
        """
        return self.encode(word.decode() for word in split_words(text.encode()))

    def decode_text(self, ids: Iterable[int]) -> str:
        r"""The text of ids: words with a space between them, `\n` for each `<eos>`."""
        lines: list[list[str]] = [[]]
        for word in self.decode(ids):
            if word == END_OF_LINE:
                lines.append([])
            else:
                lines[-1].append(word)
        return "\n".join(map(" ".join, lines))

    def __len__(self) -> int:
        return len(self._words)

    def __contains__(self, word: object) -> bool:
        return word in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocabulary) and self._words == other._words

    def __hash__(self) -> int:
        return hash(self._words)

    def __repr__(self) -> str:
        return f"Vocabulary({len(self)} words, fingerprint={self.fingerprint!r})"


def split_words(block: bytes) -> list[bytes]:
    """The words of a UTF-8 text, with `<eos>` for each line end.

    Words stay bytes, which split and hash without being decoded.
    """
    literal = _END in block and _END in block.split()
    words = block.replace(b"\n", b" " + _END + b" ").split()
    if literal:  # written in the text, it is a word like others and ends no line
        marked = (_LITERAL if word == _END else word for word in _WORD.findall(block))
        words = [_END if word == b"\n" else word for word in marked]
    return words
