"""Words to look at: those that are asked for, the most frequent, and ever rarer ones."""

import logging
from collections.abc import Sequence

from torch import Tensor

__all__ = ["find_words", "frequent_words", "some_words"]

_WORD_MARKS = "\u0120\u2581"
"""Stand for the space before a word in vocabularies of subwords: byte-level BPE's, Unigram's."""

logger = logging.getLogger("define")


def frequent_words(words: Sequence[str], counts: Tensor | None) -> list[int]:
    """All ids, the most frequent first; without frequencies, words of letters alone, by their ids.

    Vocabularies of subwords are mostly sorted by frequency, but for special tokens and single
    bytes, which these leave out.
    """
    if counts is not None:
        return counts.argsort(descending=True, stable=True).tolist()
    spelled = [i for i, word in enumerate(words) if _spelled(word, 2)]
    return spelled if len(spelled) >= 3 else list(range(len(words)))


def find_words(words: Sequence[str], wanted: Sequence[str]) -> list[int]:
    """Ids of some words; in a vocabulary of subwords, of those that begin a word.

    Words that are not there are left out, with a warning that names them.

    Raises:
        ValueError: If none of them is there.
    """
    ids = {word: i for i, word in enumerate(words)}
    found, unknown = [], []
    for word in wanted:
        spelled = [s for s in (*(mark + word for mark in _WORD_MARKS[::-1]), word) if s in ids]
        if spelled:
            found.append(ids[spelled[0]])
        else:
            unknown.append(repr(word))
    if unknown:
        verb = "is" if len(unknown) == 1 else "are"
        said = f"{', '.join(unknown)} {verb} not among the {len(words)} words of the vocabulary"
        if not found:
            raise ValueError(f"{said}.")
        logger.warning("%s: left out.", said)
    return found


def some_words(words: Sequence[str], counts: Tensor | None, number: int = 8) -> list[int]:
    """Ids of words to look at where none are named: ever rarer ones, of letters alone.

    Their ranks rise geometrically, from the 100th of such words on where there are enough.
    """
    order = frequent_words(words, counts)
    spelled = [i for i in order if _spelled(words[i]) and (counts is None or counts[i] > 2)]
    first, last = min(100, len(spelled) // 10), len(spelled) - 1
    if last < number:
        return spelled or order[:number]  # a text without such words
    steps = [(last / max(first, 1)) ** (step / number) for step in range(number)]
    return list(dict.fromkeys(spelled[round(max(first, 1) * step)] for step in steps))


def _spelled(word: str, least: int = 4) -> bool:
    """Whether a word is of letters alone; the marks that subwords begin with do not count."""
    word = word.lstrip(_WORD_MARKS)
    return len(word) >= least and word.isalpha()
