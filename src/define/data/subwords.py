"""Parts of words as a vocabulary, by `tokenizers`: for language models and for translation."""

import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary
from define.files import write_text
from define.readers import read_text

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["PADDING_TOKEN", "Subwords"]

PADDING_TOKEN = "<pad>"

_ENDS = (END_OF_LINE, "</s>", "<|endoftext|>", "[SEP]")  # as tokenizers of others call it
_UNKNOWNS = (UNKNOWN, "[UNK]")
_LARGEST = 1_000_000  # entries; the trainer takes memory for all of them at once
# The most characters that get an entry: letters of foreign scripts do not fill the table. Only a
# script of more, such as Chinese, has as many as make up this share of the text.
_CHARACTERS, _SHARE = 1000, 0.9995
_MARK, _LITERAL_MARK = "▁", "\ue000"


class Subwords:
    r"""A vocabulary of parts of words, and what turns a text into their ids and back.

    Those that `learn` makes write a space as the mark `▁` in front of the word that follows, and
    split punctuation off. So decoding gives back the sentence as it was written, but for runs of
    spaces (one space) and characters that the vocabulary lacks (`<unk>`). A `▁` in the text stays
    one. Strings such as `<eos>` or `<pad>` in a text are text: they never end a line or fill it up.
    Where a tokenizer of others knows them as words alone, they become what is unknown.

    Reference:
        Neural Machine Translation of Rare Words with Subword Units (Sennrich et al. 2016)

    Args:
        tokenizer: Any of `tokenizers`. If it has no token that ends a line (`<eos>`, `</s>`,
            `<|endoftext|>` or `[SEP]`, the first that is there), `<eos>` is added to it.
        name: Where it comes from, for errors.

    Raises:
        ValueError: If ids of tokens are left out.

    Attributes:
        end: Id of the token that ends a line.
        unknown: Id that stands for what no token stands for, or None.
        padding: Id of `<pad>`, or None.
    """

    def __init__(self, tokenizer: "Tokenizer", name: str = "The tokenizer") -> None:
        self.name = name
        self._tokenizer = tokenizer
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True  # those in the text are text
        if getattr(tokenizer.model, "dropout", None):
            tokenizer.model.dropout = None  # which cuts a word otherwise each time
        end = self._first(_ENDS)
        if end is None:
            tokenizer.add_special_tokens([END_OF_LINE])
            end = self._first(_ENDS)
        assert end is not None
        ids = tokenizer.get_vocab(with_added_tokens=True).values()
        if max(ids) >= len(ids):
            raise ValueError(f"{name} must give its {len(ids)} tokens ids below that: {max(ids)=}.")
        self.end = end
        self.unknown = self._first(_UNKNOWNS)
        self.padding = self._first([PADDING_TOKEN])

    def _first(self, tokens: Iterable[str]) -> int | None:
        found = map(self._tokenizer.token_to_id, tokens)
        return next((number for number in found if number is not None), None)

    @classmethod
    def learn(
        cls,
        lines: Iterable[str] | Callable[[], Iterable[str]],
        size: int,
        *,
        special: Sequence[str] = (END_OF_LINE, UNKNOWN),
    ) -> "Subwords":
        """Learns byte-pair encoding: the most frequent merges of a text.

        Args:
            lines: Sentences, of all languages that share the vocabulary; or a function that reads
                them: it is called twice, so that they need not be in memory.
            size: Entries of the vocabulary: special tokens, characters and merges. Characters are
                at most the larger of 1000 and half of it.
            special: Special tokens, which get the first ids in this order.

        Raises:
            ModuleNotFoundError: If `tokenizers` is not installed.
            ValueError: If the text has too few pairs that occur twice or more, or too many
                characters, for so many entries (both numbers are named).
        """
        if not len(special) < size <= _LARGEST:
            raise ValueError(f"{size=} must be above {len(special)} and at most {_LARGEST}.")
        _check_installed()
        from tokenizers import (
            Regex,
            Tokenizer,
            decoders,
            models,
            normalizers,
            pre_tokenizers,
            trainers,
        )

        tokenizer = Tokenizer(models.BPE(unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [
                normalizers.NFC(),
                normalizers.Replace(Regex(r"\s+"), " "),
                normalizers.Strip(),
                normalizers.Replace(_MARK, _LITERAL_MARK),
            ]
        )
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [
                pre_tokenizers.Metaspace(replacement=_MARK, prepend_scheme="always"),
                pre_tokenizers.Split(Regex(rf"{_MARK}?(?!{_MARK})[\p{{P}}\p{{S}}]"), "isolated"),
            ]
        )
        tokenizer.decoder = decoders.Sequence(  # pyright: ignore[reportAttributeAccessIssue]
            [
                decoders.Metaspace(replacement=_MARK, prepend_scheme="always"),
                decoders.Replace(_LITERAL_MARK, _MARK),
            ]
        )
        read = lines if callable(lines) else [*lines].__iter__
        characters = _frequent_characters(read(), size)
        trainer = trainers.BpeTrainer(
            vocab_size=size,
            min_frequency=2,  # what occurs once teaches nothing
            special_tokens=list(special),
            initial_alphabet=characters,  # equally frequent ones would be taken by chance
            limit_alphabet=max(_CHARACTERS, len(characters)),
            show_progress=False,
        )
        tokenizer.train_from_iterator(read(), trainer)
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
    def read(cls, path: Path) -> "Subwords":
        """Reads a `tokenizer.json`.

        Raises:
            FileNotFoundError: If there is no such file.
            ModuleNotFoundError: If `tokenizers` is not installed.
            ValueError: If it is not one of these; the file is named.
        """
        path = Path(path)
        if not path.is_file():
            raise FileNotFoundError(f"The tokenizer {path} is no file.")
        return cls._from_json(read_text(path), str(path))

    @classmethod
    def _from_json(cls, text: str, name: str) -> "Subwords":
        _check_installed()
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(text)
            # A file may name tokens that its model does not have: they must work, not only load.
            tokenizer.encode_batch_fast(["", " a \u00e9 1"], add_special_tokens=False)
        except BaseException as error:  # tokenizers raises no narrower one; PanicException is none
            if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
                raise
            raise ValueError(f"{name} is not a tokenizer: {error}") from error
        return cls(tokenizer, name)

    def write(self, path: Path) -> None:
        """Writes the `tokenizer.json`; it is whole or not there."""
        write_text(path, self._json)

    def check_first(self, special: Sequence[str]) -> None:
        """Raises a `ValueError` if these special tokens do not have the ids 0, 1, ..."""
        for number, token in enumerate(special):
            if (found := self._tokenizer.token_to_id(token)) != number:
                raise ValueError(f"{self.name} must give {token!r} the id {number}, not {found}.")

    def renumbered(self, order: np.ndarray) -> "Subwords":
        """The same tokens with other ids, for adaptive layers: they want frequent tokens first.

        Args:
            order: (V,) the present id of each new id.

        Raises:
            ValueError: If the tokenizer is of a kind whose ids cannot be changed.
        """
        parts = json.loads(self._json)
        model, vocabulary = parts["model"], self._tokenizer.get_vocab(with_added_tokens=True)
        tokens = sorted(vocabulary, key=vocabulary.__getitem__)
        tokens = [tokens[number] for number in order.tolist()]
        ids = {token: number for number, token in enumerate(tokens)}
        if isinstance(model["vocab"], dict):
            model["vocab"] = ids
        else:  # Unigram: pairs of a token and its logarithmic probability, and the place of <unk>
            scores = dict(map(tuple, model["vocab"]))
            lowest = min(scores.values()) - 100.0  # of tokens that the model itself lacks
            if model.get("unk_id") is not None:
                model["unk_id"] = ids[model["vocab"][model["unk_id"]][0]]
            model["vocab"] = [[token, scores.get(token, lowest)] for token in tokens]
        for added in parts["added_tokens"]:
            added["id"] = ids[added["content"]]
        parts["added_tokens"].sort(key=lambda added: added["id"])
        parts["post_processor"] = None  # it would add special tokens by the ids of before
        found = self._from_json(json.dumps(parts, ensure_ascii=False), self.name)
        if found._tokenizer.get_vocab(with_added_tokens=True) != ids:
            raise ValueError(f"{self.name}: the ids of such a tokenizer cannot be changed.")
        return found

    def encode(self, lines: Sequence[str], *, ends: bool = True) -> list[list[int]]:
        """The ids of lines, each with that of a line's end behind it unless `ends` is False."""
        found = self._tokenizer.encode_batch_fast(list(lines), add_special_tokens=False)
        rows, behind = [encoding.ids for encoding in found], [self.end] if ends else []
        special, instead = (self.end, self.padding), [] if self.unknown is None else [self.unknown]
        for row in rows:
            # A model of whole words, or of pieces by their probability, may find one in the text.
            if self.end in row or self.padding in row:
                row[:] = [i for number in row for i in (instead if number in special else [number])]
            row += behind
        return rows

    def decode(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The lines of ids, each read up to its first line end, without special tokens."""
        rows = [row[: row.index(self.end)] if self.end in row else row for row in map(list, rows)]
        return [
            text.strip() for text in self._tokenizer.decode_batch(rows, skip_special_tokens=True)
        ]

    def encode_text(self, text: str) -> list[int]:
        r"""The ids of a text as in training; each `\n` or `\r\n` ends a line."""
        *whole, last = text.replace("\r\n", "\n").split("\n")
        return [i for row in (*self.encode(whole), *self.encode([last], ends=False)) for i in row]

    def decode_text(self, ids: Iterable[int]) -> str:
        r"""The text of ids, with `\n` for each line end and `<unk>` for what is unknown."""
        rows: list[list[int]] = [[]]
        for number in ids:
            if not 0 <= number < len(self):
                raise IndexError(f"id {number} is outside of a vocabulary of {len(self)} subwords.")
            if number == self.end:
                rows.append([])
            elif number != self.padding:
                rows[-1].append(number)
        return "\n".join(self._tokenizer.decode_batch(rows, skip_special_tokens=False))

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens in the order of their ids; white space in them is written as in Python."""
        entries = self._tokenizer.get_vocab(with_added_tokens=True)
        tokens = sorted(entries, key=entries.__getitem__)
        return Vocabulary(
            token if token.encode().split() == [token.encode()] else repr(token).replace(" ", "␣")
            for token in tokens
        )

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
        return f"Subwords({len(self)} entries, fingerprint={self.fingerprint!r})"


def _frequent_characters(lines: Iterable[str], size: int) -> list[str]:
    """The characters of a text that get entries of their own; none where all of them do."""
    counts: Counter[str] = Counter()
    for line in lines:
        counts.update(unicodedata.normalize("NFC", line))
    counts[_LITERAL_MARK] += counts.pop(_MARK, 0)
    ranked = sorted((-n, sign) for sign, n in counts.items() if n and not sign.isspace())
    if len(ranked) < _CHARACTERS:  # with the mark
        return []
    found = np.cumsum([-n for n, _ in ranked])
    needed = 1 + int(np.searchsorted(found, _SHARE * found[-1]))
    most = max(_CHARACTERS, min(needed + 1, size // 2))
    return [_MARK, *(sign for _, sign in ranked[: most - 1])]


def _check_installed() -> None:
    try:
        import tokenizers  # noqa: F401
    except ImportError as error:
        raise ModuleNotFoundError(
            "Subwords need the package tokenizers: pip install 'define-embeddings[huggingface]'.",
            name="tokenizers",
        ) from error
