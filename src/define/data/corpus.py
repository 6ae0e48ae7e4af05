"""A text as a vocabulary and ids, and what there is to say about it."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from define.data.cache import cached, read_note
from define.data.files import file_identity
from define.data.ids import WordIds, learn_word_ids, write_ids
from define.data.vocabulary import UNKNOWN, Vocabulary

__all__ = ["SPLITS", "Corpus"]

SPLITS = ("train", "valid", "test")

_IDS = "ids.int32"


class Corpus:
    """A vocabulary and the ids of each split.

    Args:
        locate: Gives the files of a split, or raises `FileNotFoundError`.
        vocabulary: See `Text`.
        max_size: See `Text`. Without effect where a vocabulary is given.
        min_count: See `Text`. Without effect where a vocabulary is given.
        cache: See `Text`.
        tokens: See `Text`.
    """

    def __init__(
        self,
        locate: Callable[[str], Sequence[Path]],
        vocabulary: Path | None = None,
        *,
        max_size: int | None = None,
        min_count: int | None = None,
        cache: Path | None = None,
        tokens: int | None = None,
    ) -> None:
        if tokens is not None and tokens < 1:
            raise ValueError(f"{tokens=} must be at least 1.")
        self._locate = locate
        self._given = vocabulary
        self._max_size = max_size
        self._min_count = min_count
        self._cache = cache
        self._tokens = tokens

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words; where a vocabulary is given, the text need not be there.

        Raises:
            FileNotFoundError: If the vocabulary, or the training text where it comes from that,
                is not there.
            ValueError: If the training text is empty, or not UTF-8 (file and line are named).
        """
        if self._given is not None:
            return Vocabulary.read(self._given)
        return Vocabulary.read(self._learned / "vocabulary.txt")

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

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the vocabulary and the training ids: of content, not of places."""
        ids = read_note(self._ids("train"))["digest"]
        return hashlib.sha256(f"{self.vocabulary.fingerprint} {ids}".encode()).hexdigest()[:16]

    def _count(self, split: str) -> Tensor:
        counts = torch.zeros(len(self.vocabulary), dtype=torch.int64)
        for part in self.split(split).split(1 << 22):
            counts += torch.bincount(part, minlength=len(counts))
        return counts

    def _ids(self, split: str) -> Path:
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
        if split == "train" and self._given is None:
            return self._learned
        files, vocabulary = self._locate(split), self.vocabulary

        def build(folder: Path) -> dict[str, Any]:
            facts, _ = write_ids(files, WordIds(vocabulary), folder / _IDS, self._limit(split))
            return facts

        source = {**self._source(split, files), "vocabulary": vocabulary.fingerprint}
        return cached(self._cache, split, source, build)

    @cached_property  # once, so that vocabulary and ids agree even if the text changes meanwhile
    def _learned(self) -> Path:
        """The folder with the vocabulary made from the training text and the ids of that text."""
        files = self._locate("train")

        def choose(counts: Mapping[str, int]) -> Vocabulary:
            min_count = self._min_count
            if min_count is None:
                min_count = 1 if UNKNOWN in counts else 2
            return Vocabulary.from_counts(counts, max_size=self._max_size, min_count=min_count)

        def build(folder: Path) -> dict[str, Any]:
            vocabulary, facts = learn_word_ids(files, choose, folder / _IDS, self._limit("train"))
            vocabulary.write(folder / "vocabulary.txt")
            return facts

        source = {**self._source("train", files), "max_size": self._max_size}
        return cached(self._cache, "train", {**source, "min_count": self._min_count}, build)

    def _source(self, split: str, files: Sequence[Path]) -> dict[str, object]:
        return {"files": [*map(file_identity, files)], "tokens": self._limit(split)}

    def _limit(self, split: str) -> int | None:
        return self._tokens if split == "train" else None
