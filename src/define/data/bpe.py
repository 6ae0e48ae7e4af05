"""Joint byte-pair encoding of two languages, by `tokenizers`."""

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from define.data.vocabulary import Vocabulary
from define.files import write_bytes

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["BytePairs"]

PADDING_TOKEN, END_TOKEN, UNKNOWN_TOKEN = "<pad>", "<eos>", "<unk>"
_SPECIAL = (PADDING_TOKEN, END_TOKEN, UNKNOWN_TOKEN)


class BytePairs:
    r"""A vocabulary of parts of words, and what turns a sentence into their ids and back.

    A space becomes the mark `▁` in front of the word that follows, and punctuation is split off,
    so decoding gives back the sentence as it was written, but for runs of spaces (one space) and
    characters that the vocabulary lacks (`<unk>`). Ids 0, 1 and 2 are `<pad>`, `<eos>` and
    `<unk>`.

    Reference:
        Neural Machine Translation of Rare Words with Subword Units (Sennrich et al. 2016)

    Args:
        tokenizer: As `learn` and `read` make it.
        name: Where it comes from, for errors.

    Raises:
        ValueError: If the ids of the special tokens are not 0, 1 and 2.
    """

    padding, end, unknown = range(3)

    def __init__(self, tokenizer: "Tokenizer", name: str = "The tokenizer") -> None:
        for number, token in enumerate(_SPECIAL):
            if tokenizer.token_to_id(token) != number:
                raise ValueError(
                    f"{name} must give {token!r} the id {number}, "
                    f"not {tokenizer.token_to_id(token)}."
                )
        self._tokenizer = tokenizer

    @classmethod
    def learn(cls, lines: Iterable[str], size: int, *, max_characters: int = 1000) -> "BytePairs":
        """Learns the most frequent merges of a text.

        Args:
            lines: Sentences of all languages that share the vocabulary.
            size: Entries of the vocabulary: special tokens, characters and merges.
            max_characters: The most characters that get an entry, the most frequent ones first; so
                a few letters of a foreign script do not fill the table.

        Raises:
            ValueError: If the text has too few pairs that occur twice or more, or too many
                characters, for so many entries (both numbers are named).
        """
        from tokenizers import (
            Regex,
            Tokenizer,
            decoders,
            models,
            normalizers,
            pre_tokenizers,
            trainers,
        )

        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN_TOKEN))
        tokenizer.normalizer = normalizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Strip()]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [
                pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always"),
                pre_tokenizers.Split(Regex(r"▁?(?!▁)[\p{P}\p{S}]"), "isolated"),
            ]
        )
        tokenizer.decoder = decoders.Metaspace(  # pyright: ignore[reportAttributeAccessIssue]
            replacement="▁", prepend_scheme="always"
        )
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,  # what occurs once teaches nothing
            special_tokens=list(_SPECIAL),
            limit_alphabet=max_characters,
            show_progress=False,
        )
        tokenizer.train_from_iterator(lines, trainer)
        found = tokenizer.get_vocab_size()
        if found < size:
            raise ValueError(
                f"The vocabulary was to have {size=} entries, but the text yields only {found}: "
                "there are no more pairs that occur twice. Ask for fewer."
            )
        if found > size:
            raise ValueError(
                f"{size=} entries are too few: the text's characters alone take {found}."
            )
        return cls(tokenizer)

    @classmethod
    def read(cls, path: Path) -> "BytePairs":
        """Reads a `tokenizer.json`.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If it is not one of these; the file is named.
        """
        from tokenizers import Tokenizer

        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"The tokenizer {path} is no file.")
        try:
            tokenizer = Tokenizer.from_file(str(path))
        except Exception as error:  # tokenizers raises nothing more specific
            raise ValueError(f"{path} is not a tokenizer: {error}") from error
        return cls(tokenizer, str(path))

    def write(self, path: Path) -> None:
        """Writes the `tokenizer.json`; it is whole or not there."""
        write_bytes(path, self._json.encode())

    def encode(self, lines: Sequence[str]) -> list[list[int]]:
        """The ids of sentences, each ended by `<eos>`; those of an empty line are that alone."""
        found = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        return [[*encoding.ids, self.end] for encoding in found]

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The sentences of ids, each read up to its first `<eos>`, without special tokens."""
        rows = [row[: row.index(self.end)] if self.end in row else row for row in map(list, rows)]
        return [
            text.strip() for text in self._tokenizer.decode_batch(rows, skip_special_tokens=True)
        ]

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The entries in the order of their ids."""
        entries = self._tokenizer.get_vocab()
        return Vocabulary(sorted(entries, key=entries.__getitem__))

    @cached_property
    def fingerprint(self) -> str:
        """A short digest of all that decides which ids a sentence gets."""
        return hashlib.sha256(self._json.encode()).hexdigest()[:16]

    @cached_property
    def _json(self) -> str:
        return self._tokenizer.to_str()

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def __repr__(self) -> str:
        return f"BytePairs({len(self)} entries, fingerprint={self.fingerprint!r})"
