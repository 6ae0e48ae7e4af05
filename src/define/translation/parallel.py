"""Sentences in two languages in a folder, and what becomes of them: joint BPE and ids."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, islice
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from define.data.cache import cached, content, read_note
from define.data.corpus import SPLITS
from define.data.files import find_text
from define.data.subwords import PADDING_TOKEN, Subwords
from define.data.vocabulary import END_OF_LINE, UNKNOWN
from define.readers import read_lines

_LINES = 20_000  # encoded at a time: memory stays bounded whatever the text
_TOKENIZER = "tokenizer.json"
_SPECIAL = (PADDING_TOKEN, END_OF_LINE, UNKNOWN)  # ids 0, 1 and 2

logger = logging.getLogger("define")


@dataclass(frozen=True)
class ParallelText:
    """A folder of sentences and their translations, with `train`, `valid` and `test`.

    Each split is two UTF-8 files of one sentence a line, `train.en` and `train.de` (or with
    `.xz` or `.gz` behind), and line i of the one is the translation of line i of the other.

    Args:
        path: The folder.
        source: Language to translate from, the ending of its files' names.
        target: Language to translate to.
        vocabulary_size: Entries of the joint byte-pair encoding, learned from the training text.
        tokenizer: A `tokenizer.json` to use instead, such as that of a run.
        max_length: The most tokens of a sentence with its `<eos>`. Longer training and
            validation pairs are left out; a longer sentence to translate is cut.
        cache: Where tokenizer and ids are kept, see `define.data.cache.cache_folder`.
    """

    path: Path
    source: str = "en"
    target: str = "de"
    vocabulary_size: int = 8000
    tokenizer: Path | None = None
    max_length: int = 128
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.source == self.target:
            raise ValueError(f"source={self.source!r} must differ from target={self.target!r}.")
        if self.max_length < 2:
            raise ValueError(f"max_length={self.max_length} must be at least 2.")

    def open(self) -> "ParallelCorpus":
        """The corpus; its parts are built or read when they are first asked for."""
        return ParallelCorpus(self)

    def files(self, split: str) -> tuple[Path, Path]:
        """The files of a split, source and target.

        Raises:
            FileNotFoundError: If the folder or one of them is not there.
            ValueError: If there is no split of that name.
        """
        if split not in SPLITS:
            raise ValueError(f"There is no split {split!r}; the splits are {', '.join(SPLITS)}.")
        folder = Path(self.path)
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise FileNotFoundError(f"The folder of parallel text {folder} {what}.")
        source, target = f"{split}.{self.source}", f"{split}.{self.target}"
        return find_text(folder, source), find_text(folder, target)


class Sentences:
    """Many sentences of ids, end to end.

    Args:
        ids: All ids, (tokens,).
        lengths: Tokens of each sentence, (sentences,).
    """

    def __init__(self, ids: np.ndarray, lengths: np.ndarray) -> None:
        self._ids = ids
        self.lengths = lengths
        self._ends = np.cumsum(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, number: int) -> Tensor:
        """The ids of a sentence, int64, the last one `<eos>`."""
        end = self._ends[number]
        ids = self._ids[end - self.lengths[number] : end]
        return torch.from_numpy(ids.astype(np.int64))

    def counts(self, size: int) -> Tensor:
        """How often each of `size` ids occurs, (size,)."""
        return torch.from_numpy(np.bincount(self._ids, minlength=size))


class ParallelCorpus:
    """A joint vocabulary and the pairs of each split.

    Args:
        text: Where it comes from.
    """

    def __init__(self, text: ParallelText) -> None:
        self.text = text

    @cached_property
    def tokenizer(self) -> Subwords:
        """The byte-pair encoding; where one is given, the text need not be there.

        Raises:
            ValueError: If the training text yields no vocabulary of that size, or the given
                tokenizer does not begin with `<pad>`, `<eos>` and `<unk>`.
        """
        text = self.text
        if text.tokenizer is not None:
            found = Subwords.read(text.tokenizer)
            found.check_first(_SPECIAL)
            return found
        files = text.files("train")

        def build(folder: Path) -> None:
            tokenizer = Subwords.learn(
                lambda: chain.from_iterable(map(read_sentences, files)),
                text.vocabulary_size,
                special=_SPECIAL,
            )
            tokenizer.write(folder / _TOKENIZER)

        source = {"files": self._content(files), "size": text.vocabulary_size}
        return Subwords.read(cached(text.cache, "bpe", source, build) / _TOKENIZER)

    def pairs(self, split: str) -> tuple[Sentences, Sentences]:
        """The encoded pairs of a split to learn from or to validate on.

        Pairs with an empty side, or with more than `max_length` tokens on one, are left out;
        how many is logged. Encoded once, in bounded memory, and mapped from files.

        Raises:
            ValueError: If the two files differ in their number of lines (both are named), are not
                UTF-8, or nothing is left of them.
        """
        files, tokenizer, longest = self.text.files(split), self.tokenizer, self.text.max_length

        def build(folder: Path) -> dict[str, int]:
            return _encode_pairs(files, tokenizer, longest, folder)

        source = {
            "files": self._content(files),
            "tokenizer": tokenizer.fingerprint,
            "max_length": longest,
        }
        folder = cached(self.text.cache, f"pairs-{split}", source, build)
        left = read_note(folder)
        if left["empty"] or left["long"]:
            logger.warning(
                "%s of %s: left out %d pairs with an empty line and %d with more than %d tokens.",
                *(split, self.text.path, left["empty"], left["long"], longest),
            )
        source_ids, target_ids = (
            Sentences(
                np.memmap(folder / f"{side}.ids", np.int32, "r"),
                np.fromfile(folder / f"{side}.lengths", np.int32),
            )
            for side in ("source", "target")
        )
        return source_ids, target_ids

    def _content(self, files: tuple[Path, Path]) -> list[dict[str, str]]:
        return [content(file, self.text.cache) for file in files]

    def lines(self, split: str) -> tuple[list[str], list[str]]:
        """All sentences of a split as they are written, source and target.

        Raises:
            ValueError: If the two files differ in their number of lines.
        """
        files = self.text.files(split)
        source, target = (list(read_sentences(file)) for file in files)
        _check_equal(files, len(source), len(target))
        return source, target


def read_sentences(path: Path) -> Iterator[str]:
    """The lines of a UTF-8 file, one after the other, without the white space around them.

    Raises:
        ValueError: If a line is not UTF-8 (file and line are named), or the file is a damaged
            archive.
    """
    return map(str.strip, read_lines(path))


def _encode_pairs(
    files: tuple[Path, Path], tokenizer: Subwords, longest: int, folder: Path
) -> dict[str, int]:
    """Writes ids and lengths of the pairs that are kept; how many were kept and left out."""
    counts = {"pairs": 0, "empty": 0, "long": 0}
    streams = [read_sentences(file) for file in files]
    lengths: tuple[list[int], list[int]] = ([], [])
    read = [0, 0]
    with (
        (folder / "source.ids").open("wb") as source,
        (folder / "target.ids").open("wb") as target,
        tqdm(desc=f"encoding {files[0].name}", unit=" pairs", delay=0.5) as bar,
    ):
        while True:
            blocks = [list(islice(stream, _LINES)) for stream in streams]
            for side, block in enumerate(blocks):
                read[side] += len(block)
            if len(blocks[0]) != len(blocks[1]):
                read = [n + sum(1 for _ in stream) for n, stream in zip(read, streams, strict=True)]
                _check_equal(files, *read)
            if not blocks[0]:
                break
            for pair in zip(*map(tokenizer.encode, blocks), strict=True):
                if min(map(len, pair)) < 2:  # <eos> alone
                    counts["empty"] += 1
                elif max(map(len, pair)) > longest:
                    counts["long"] += 1
                else:
                    counts["pairs"] += 1
                    for file, side, ids in zip((source, target), lengths, pair, strict=True):
                        file.write(np.array(ids, np.int32).tobytes())
                        side.append(len(ids))
            bar.update(len(blocks[0]))
    if not counts["pairs"]:
        raise ValueError(
            f"Nothing is left of the {read[0]} pairs of {files[0]} and {files[1].name}: "
            f"{counts['empty']} have an empty line, {counts['long']} more than {longest} tokens."
        )
    for name, side in zip(("source", "target"), lengths, strict=True):
        (folder / f"{name}.lengths").write_bytes(np.array(side, np.int32).tobytes())
    return counts


def _check_equal(files: tuple[Path, Path], source: int, target: int) -> None:
    if source != target:
        raise ValueError(
            f"{files[0]} has {source} lines, but {files[1]} has {target}: line i of the one must "
            "be the translation of line i of the other."
        )
