"""Word-level text in a folder, and what becomes of it: a vocabulary and ids."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from define.data.cache import cached, read_note
from define.data.files import ENDINGS, file_identity
from define.data.ids import learn_ids, write_ids
from define.data.vocabulary import UNKNOWN, Vocabulary

_IDS = "ids.int32"
SPLITS = ("train", "valid", "test")


@dataclass(frozen=True)
class Text:
    """A folder of text with the splits ``train``, ``valid`` and ``test``.

    Each split is one UTF-8 file, ``.txt``, ``.txt.xz`` or ``.txt.gz`` (the first of these that is
    there). Words are what stands between ASCII white space, and every line, empty ones too, ends
    with the word ``<eos>``: so the published token counts of Penn Treebank and WikiText come out.

    Args:
        path: The folder.
        vocabulary: A file that `Vocabulary.read` reads. None: the words of the training text by
            falling frequency.
        max_size: The most entries of a vocabulary made from the training text. None: no limit.
        min_count: Words of the training text that occur less often are left out. None: 1 where
            the training text itself has ``<unk>``, as published sets do, else 2. With 1 and no
            ``<unk>`` in the text, ``<unk>`` would never be seen in training, and its vector and
            its probability in other texts would be those of the initialization.
        cache: Where ids are kept, see `define.data.cache.cache_folder`.
        evaluation: The folder of ``valid`` and ``test`` where it is another than that of ``train``:
            a model can then be measured on a published text that it was not trained for.
    """

    path: Path
    vocabulary: Path | None = None
    max_size: int | None = None
    min_count: int | None = None
    cache: Path | None = None
    evaluation: Path | None = None

    def open(self) -> "Corpus":
        """The corpus; its parts are built or read when they are first asked for."""
        return Corpus(self._locate, self.vocabulary, self.max_size, self.min_count, self.cache)

    def _locate(self, split: str) -> Path:
        folder = Path(self.path if split == "train" or not self.evaluation else self.evaluation)
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise FileNotFoundError(f"The text folder {folder} {what}; a folder is needed.")
        for ending in ENDINGS:
            if (file := folder / f"{split}{ending}").is_file():
                return file
        names = ", ".join(f"{split}{ending}" for ending in ENDINGS)
        raise FileNotFoundError(f"{folder} has no split {split!r}: none of {names} is there.")


class Corpus:
    """A vocabulary and the ids of each split.

    Args:
        locate: Gives the file of a split, or raises `FileNotFoundError`.
        vocabulary: See `Text`; so for the others.
        max_size: Without effect where a vocabulary is given.
        min_count: Likewise.
        cache: See `Text`.
    """

    def __init__(
        self,
        locate: Callable[[str], Path],
        vocabulary: Path | None = None,
        max_size: int | None = None,
        min_count: int | None = None,
        cache: Path | None = None,
    ) -> None:
        self._locate = locate
        self._given = vocabulary
        self._max_size = max_size
        self._min_count = min_count
        self._cache = cache

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
                has a word that neither is in the vocabulary nor can be ``<unk>`` (file and line
                are named). Nothing is kept of it then.
        """
        path = self._ids(name) / _IDS
        length = path.stat().st_size // 4
        return torch.from_file(str(path), shared=False, size=length, dtype=torch.int32)

    @cached_property
    def counts(self) -> Tensor:
        """How often each id occurs in the training text, (V,) int64."""
        counts = torch.zeros(len(self.vocabulary), dtype=torch.int64)
        for part in self.split("train").split(1 << 22):
            counts += torch.bincount(part, minlength=len(counts))
        return counts

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of the vocabulary and the training ids: of content, not of places."""
        ids = read_note(self._ids("train"))["digest"]
        return hashlib.sha256(f"{self.vocabulary.fingerprint} {ids}".encode()).hexdigest()[:16]

    def _ids(self, split: str) -> Path:
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
        if split == "train" and self._given is None:
            return self._learned
        path, vocabulary = self._locate(split), self.vocabulary

        def build(folder: Path) -> dict[str, object]:
            return {"digest": write_ids(path, vocabulary, folder / _IDS)}

        source = {**file_identity(path), "vocabulary": vocabulary.fingerprint}
        return cached(self._cache, split, source, build)

    @cached_property  # once, so that vocabulary and ids agree even if the text changes meanwhile
    def _learned(self) -> Path:
        """The folder with the vocabulary made from the training text and the ids of that text."""
        path = self._locate("train")

        def choose(counts: Mapping[str, int]) -> Vocabulary:
            min_count = self._min_count
            if min_count is None:
                min_count = 1 if UNKNOWN in counts else 2
            return Vocabulary.from_counts(counts, max_size=self._max_size, min_count=min_count)

        def build(folder: Path) -> dict[str, object]:
            vocabulary, digest = learn_ids(path, choose, folder / _IDS)
            vocabulary.write(folder / "vocabulary.txt")
            return {"digest": digest}

        source = {**file_identity(path), "max_size": self._max_size, "min_count": self._min_count}
        return cached(self._cache, "train", source, build)
