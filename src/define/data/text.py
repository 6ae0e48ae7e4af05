"""Language text in a folder: which files are which split, and how they become ids."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from define.data.cache import cached, content
from define.data.corpus import SPLITS, Corpus
from define.data.files import ENDINGS, find_text
from define.readers import read_lines

__all__ = ["Text"]

_ENDINGS = tuple(f".txt{ending}" for ending in ENDINGS)
_PART = 20  # valid and test of a text that is divided: each of so many lines of a file


@dataclass(frozen=True)
class Text:
    """A folder of text with the splits `train`, `valid` and `test`.

    Each split is one UTF-8 file (`train.txt`), or several that are read one after the other in the
    order of their names (`train-*.txt`, or all `.txt` files of a folder `train`). A folder that has
    none of the splits but other `.txt` files, such as novels, is divided: the last 20th of the
    lines of each is `test`, the 20th before `valid`; but not where their names speak of several
    splits (`ptb.train.txt`, `ptb.test.txt`). Each file may be compressed (`.txt.xz`, `.txt.gz`);
    hidden ones are left out. Words are what stands between ASCII white space, and every
    line, empty ones too, ends with the word `<eos>`: so the published token counts of Penn Treebank
    and WikiText come out. `<unk>` in a text is that of the vocabulary; `<eos>` in a text is a word
    like others, but one that no vocabulary holds.

    Args:
        path: The folder.
        vocabulary: A file that `Vocabulary.read` reads. None: the words of the training text by
            falling frequency.
        max_size: The most entries of a vocabulary made from the training text. None: no limit.
        min_count: Words of the training text that occur less often are left out. None: 1 where
            the training text itself has `<unk>`, as published sets do, else 2. With 1 and no
            `<unk>` in the text, `<unk>` would never be seen in training, and its vector and
            its probability in other texts would be those of the initialization.
        cache: Where ids are kept, see `define.data.cache.cache_folder`.
        evaluation: The folder of `valid` and `test` where it is another than that of `train`:
            a model can then be measured on a published text that it was not trained for.
        tokens: The training text ends after that many words, line ends counted. None: all.
        tokenizer: Cuts words into subwords, so that none is unknown: `bpe`, learned from the
            training text, or a `tokenizer.json` of `tokenizers`. Their ids are sorted by falling
            frequency. `max_size` and `min_count` are then without effect; with a `vocabulary`
            (that of a run), the `tokenizer.json` beside it is taken as it is. None: words.
        size: Entries of the vocabulary that `bpe` learns.
    """

    path: Path
    vocabulary: Path | None = None
    max_size: int | None = None
    min_count: int | None = None
    cache: Path | None = None
    evaluation: Path | None = None
    tokens: int | None = None
    tokenizer: Literal["bpe"] | Path | None = None
    size: int = 8000

    def open(self) -> Corpus:
        """The corpus; its parts are built or read when they are first asked for."""
        return Corpus(self)

    def files(self, split: str) -> list[Path]:
        """The files of a split, in the order in which they are read; see `Text`."""
        folder = Path(self.path if split == "train" or not self.evaluation else self.evaluation)
        if not folder.is_dir():
            what = "is a file" if folder.exists() else "does not exist"
            raise FileNotFoundError(f"The text folder {folder} {what}; a folder is needed.")
        try:
            return [find_text(folder, f"{split}.txt")]
        except FileNotFoundError:
            for pattern in (f"{split}-*", f"{split}/*"):
                if shards := _texts(folder, pattern):
                    return shards
            named = any(_texts(folder, pattern) for s in SPLITS for pattern in (f"{s}*", f"{s}/*"))
            whole = _texts(folder, "*")
            # Names such as wiki.valid.txt and Test.txt: to divide those would mix the splits.
            all_names = " ".join(file.name.lower() for file in whole)
            spoken_of = [s for s in SPLITS if re.search(rf"(?<![a-z]){s}", all_names)]
            if not named and len(spoken_of) < 2 and split in SPLITS and whole:
                for file in ("config.yaml", "config.json"):  # else its vocabulary were the text
                    if (folder / file).is_file():
                        what = f"{folder} is no text but a model: it has {file}."
                        raise ValueError(what) from None
                return [self._divided(whole) / f"{split}.txt"]
            names = ", ".join(f"{split}{ending}" for ending in _ENDINGS)
            there = f"; there are {', '.join(file.name for file in whole[:9])}" if whole else ""
            raise FileNotFoundError(
                f"{folder} has no split {split!r}: none of {names}, {split}-*.txt, {split}/*.txt "
                f"is there{there}."
            ) from None

    def _divided(self, files: Sequence[Path]) -> Path:
        """The folder of the splits of files that are none."""

        def build(folder: Path) -> None:
            train, valid, test = (folder / f"{split}.txt" for split in SPLITS)
            with train.open("wb") as first, valid.open("wb") as second, test.open("wb") as third:
                for file in files:
                    lines = sum(1 for _ in read_lines(file))
                    part = lines // _PART
                    for number, line in enumerate(read_lines(file)):
                        ahead = lines - number
                        sink = first if ahead > 2 * part else second if ahead > part else third
                        sink.write(f"{line}\n".encode())
            if not test.stat().st_size:
                raise ValueError(
                    f"{files[0].parent} is too short to be divided into {', '.join(SPLITS)}: one "
                    f"of its files must have {_PART} lines."
                )

        source = {"files": [content(file, self.cache) for file in files], "part": _PART}
        return cached(self.cache, "divided", source, build)


def _texts(folder: Path, pattern: str) -> list[Path]:
    """The texts of a pattern in the order of their names."""
    files = sorted(file for file in folder.glob(pattern) if file.is_file())
    return [f for f in files if f.name.endswith(_ENDINGS) and not f.name.startswith(".")]
