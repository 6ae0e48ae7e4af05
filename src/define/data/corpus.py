"""A text as a vocabulary and ids, and what there is to say about it."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from define.data.cache import cached, content, read_note
from define.data.ids import (
    SubwordIds,
    WordIds,
    learn_subword_ids,
    learn_word_ids,
    read_words,
    write_ids,
)
from define.data.subwords import Subwords
from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary

if TYPE_CHECKING:
    from define.data.pydocs import PyDocs
    from define.data.text import Text

__all__ = ["SPLITS", "Corpus", "Statistics"]

SPLITS = ("train", "valid", "test")

_IDS, _WORDS, _TOKENIZER = "ids.int32", "vocabulary.txt", "tokenizer.json"
_MANY = 0.03  # share of words that became <unk>: from here on perplexities mislead


@dataclass(frozen=True)
class Statistics:
    """What a split consists of.

    Attributes:
        split: Its name.
        tokens: Ids of the model's vocabulary.
        types: How many of them are different.
        unknown: How many of them are `<unk>`.
        replaced: Those that the vocabulary lacks: `<unk>` that is not written in the text itself.
        words: Of the text, between white space, and one more for each line end.
        characters: Of these words, with one for the space behind each, and one for each line end.
    """

    split: str
    tokens: int
    types: int
    unknown: int
    replaced: int
    words: int
    characters: int

    def perplexity_per_word(self, perplexity: float) -> float:
        """The same likelihood, spread over the words of the text; comparable across tokenizers."""
        # Tensors have no error where it is too large.
        whole = torch.tensor(perplexity, dtype=torch.float64)
        return whole.pow(self.tokens / self.words).item()

    def perplexity_per_character(self, perplexity: float) -> float:
        """The same likelihood, spread over the characters of the text."""
        return perplexity ** (self.tokens / self.characters)

    @property
    def warning(self) -> str | None:
        """What to think of before believing a perplexity, if anything."""
        if self.replaced < _MANY * self.tokens:
            return None
        return (
            f"{self.replaced / self.tokens:.1%} of {self.split} became <unk>, which is easy to "
            "predict: its perplexity says little and cannot be compared with that of other "
            "vocabularies. Subwords of the text itself leave out little (tokenizer='bpe')."
        )

    def __str__(self) -> str:
        return (
            f"{self.split}: {self.tokens:,} tokens of {self.types:,} types, "
            f"{self.unknown / self.tokens:.1%} <unk>; {self.words:,} words, "
            f"{self.characters / self.tokens:.2f} characters per token"
        )


class Corpus:
    """A vocabulary and the ids of each split.

    Args:
        source: Where they come from.

    Raises:
        ValueError: If it asks for fewer than one token.
    """

    def __init__(self, source: "Text | PyDocs") -> None:
        if source.tokens is not None and source.tokens < 1:
            raise ValueError(f"tokens={source.tokens} must be at least 1.")
        self._source = source
        self._given = None if source.vocabulary is None else Path(source.vocabulary)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words or subwords; where a vocabulary is given, the text need not be there.

        Raises:
            FileNotFoundError: If the vocabulary, or the training text where it comes from that,
                is not there.
            ValueError: If the training text is empty, or not UTF-8 (file and line are named).
        """
        if self.tokenizer is not None:
            return self.tokenizer.vocabulary
        return Vocabulary.read(self._given or self._learned / _WORDS)

    @cached_property
    def tokenizer(self) -> Subwords | None:
        """What cuts words into subwords; None where words are the tokens.

        Raises:
            FileNotFoundError: As for `vocabulary`.
            ModuleNotFoundError: If `tokenizers` is not installed.
            ValueError: As for `vocabulary`; if words are asked for of a vocabulary of subwords.
        """
        if self._source.tokenizer is None:
            if self._given is not None and self._given.with_name(_TOKENIZER).is_file():
                raise ValueError(
                    f"{self._given} is of subwords, not of words: with the {_TOKENIZER} beside it, "
                    "tokenizer must be 'bpe' and not None."
                )
            return None
        if self._given is not None:
            return Subwords.read(self._given.with_name(_TOKENIZER))
        return Subwords.read(self._learned / _TOKENIZER)

    def encode(self, text: str) -> list[int]:
        r"""The ids of a text as in training; each `\n` ends a line."""
        return (self.tokenizer or self.vocabulary).encode_text(text)

    def decode(self, ids: Sequence[int]) -> str:
        r"""The text of ids, with `\n` for each line end."""
        return (self.tokenizer or self.vocabulary).decode_text(ids)

    @property
    def end(self) -> int:
        """The id that stands at the end of each line."""
        if self.tokenizer is not None:
            return self.tokenizer.end
        return self.vocabulary.encode([END_OF_LINE])[0]

    def write(self, folder: Path) -> None:
        """Writes what a model needs of it: `vocabulary.txt`, with subwords also `tokenizer.json`.

        That `vocabulary.txt` is then the `vocabulary` of a `Text` with the same ids and, with
        subwords, `tokenizer="bpe"`.
        """
        if self.tokenizer is not None:
            self.tokenizer.write(Path(folder) / _TOKENIZER)
        self.vocabulary.write(Path(folder) / _WORDS)

    def split(self, name: str) -> Tensor:
        """The ids of a split, (tokens,) int32, mapped from a file and not read into memory.

        Built when first asked for and whenever the text or the vocabulary changed, with a
        progress bar, in bounded memory. Writing into the tensor does not change the file.

        Raises:
            FileNotFoundError: If the split is not there.
            ValueError: If there is no split of that name; if its text is empty, not UTF-8, or
                has a word that neither is in the vocabulary nor can be `<unk>` (file and line
                are named). Nothing is kept of it then.
        """
        path = self._ids(name) / _IDS
        length = path.stat().st_size // 4
        return torch.from_file(str(path), shared=False, size=length, dtype=torch.int32)

    @cached_property
    def counts(self) -> Tensor:
        """How often each id occurs in the training text, (V,) int64."""
        return self._count("train")

    def statistics(self, split: str) -> Statistics:
        """What a split consists of; raises what `split` raises."""
        counts, note = self._count(split), read_note(self._ids(split))
        if self.tokenizer is not None:
            unknown = self.tokenizer.unknown
        else:
            unknown = self.vocabulary.encode([UNKNOWN])[0] if UNKNOWN in self.vocabulary else None
        return Statistics(
            split=split,
            tokens=int(counts.sum()),
            types=int((counts > 0).sum()),
            unknown=0 if unknown is None else int(counts[unknown]),
            **{name: note[name] for name in ("replaced", "words", "characters")},
        )

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the vocabulary and the training ids: of content, not of places."""
        ids = self.digest("train")
        return hashlib.sha256(f"{self.vocabulary.fingerprint} {ids}".encode()).hexdigest()[:16]

    def digest(self, split: str) -> str:
        """A short digest of the ids of a split."""
        return read_note(self._ids(split))["digest"]

    def _count(self, split: str) -> Tensor:
        counts = torch.zeros(len(self.vocabulary), dtype=torch.int64)
        for part in self.split(split).split(1 << 22):
            counts += torch.bincount(part, minlength=len(counts))
        return counts

    def _ids(self, split: str) -> Path:
        """The folder with the ids of a split."""
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
        if split == "train" and self._given is None:
            return self._learned
        files, vocabulary = self._source.files(split), self.tokenizer or self.vocabulary

        def build(folder: Path) -> dict[str, Any]:
            if isinstance(vocabulary, Vocabulary):
                encode = WordIds(vocabulary)
            else:
                encode = SubwordIds(vocabulary)
            return write_ids(files, encode, folder / _IDS, self._limit(split))[0]

        source = {**self._key(split, files), "vocabulary": vocabulary.fingerprint}
        return cached(self._source.cache, split, source, build)

    @cached_property  # once, so that vocabulary and ids agree even if the text changes meanwhile
    def _learned(self) -> Path:
        """The folder with the vocabulary made from the training text and the ids of that text."""
        files, limit = self._source.files("train"), self._limit("train")
        source = self._key("train", files)
        if self._source.tokenizer is None:
            source.update(max_size=self._source.max_size, min_count=self._source.min_count)
        elif self._source.tokenizer == "bpe":
            source.update(subwords="bpe", size=self._source.size)
        else:
            source.update(subwords=Subwords.read(Path(self._source.tokenizer)).fingerprint)

        def build(folder: Path) -> dict[str, Any]:
            if self._source.tokenizer is None:
                vocabulary, facts = learn_word_ids(files, self._choose, folder / _IDS, limit)
                vocabulary.write(folder / _WORDS)
            else:
                subwords = self._first_subwords(files)
                subwords, facts = learn_subword_ids(files, subwords, folder / _IDS, limit)
                subwords.write(folder / _TOKENIZER)
            return facts

        return cached(self._source.cache, "train", source, build)

    def _choose(self, counts: Mapping[str, int]) -> Vocabulary:
        min_count = self._source.min_count
        if min_count is None:
            min_count = 1 if UNKNOWN in counts else 2
        return Vocabulary.from_counts(counts, max_size=self._source.max_size, min_count=min_count)

    def _first_subwords(self, files: Sequence[Path]) -> Subwords:
        if self._source.tokenizer not in (None, "bpe"):
            return Subwords.read(Path(self._source.tokenizer))

        def lines() -> Iterator[str]:
            for *_, block in read_words(files, self._limit("train")):
                yield from block.decode().split("\n")

        return Subwords.learn(lines, self._source.size)

    def _key(self, split: str, files: Sequence[Path]) -> dict[str, object]:
        found = [content(file, self._source.cache) for file in files]
        return {"files": found, "tokens": self._limit(split)}

    def _limit(self, split: str) -> int | None:
        return self._source.tokens if split == "train" else None
