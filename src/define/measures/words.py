"""Words to look at: which, and the plane in which their vectors differ most."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from define.measures.rows import Table, gather_rows

__all__ = ["WordMap", "find_words", "frequent_words", "some_words", "word_map"]

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


@dataclass(frozen=True)
class WordMap:
    """Places of words on the first two principal axes.

    Attributes:
        ids: (words,) which.
        places: (words, 2) float64.
        explained: Share of the words' variance along each axis.
    """

    ids: Tensor
    places: Tensor
    explained: tuple[float, float]


def word_map(table: Table, ids: Tensor) -> WordMap:
    """Principal components of the vectors of some words, such as the most frequent ones.

    The sign of an axis is free; here the largest of its weights on the dimensions is positive, so
    that the same table always gives the same map.

    Args:
        table: A (V, m) matrix or an embedding module.
        ids: (words,) at least 3 ids.

    Raises:
        ValueError: If there are fewer than 3 words, the vectors are narrower than 2, or a row is
            not finite.
    """
    rows = gather_rows(table, ids).double()
    if len(rows) < 3 or rows.shape[1] < 2:
        raise ValueError(f"A map needs 3 words of 2 dimensions at least, not {tuple(rows.shape)}.")
    wrong = ~rows.isfinite().all(-1)
    if wrong.any():
        raise ValueError(f"Row {ids[wrong][0].item()} of the table is not finite.")
    rows -= rows.mean(0)
    u, s, axes = torch.linalg.svd(rows, full_matrices=False)
    largest = axes[:2].abs().argmax(-1, keepdim=True)
    sign = axes[:2].gather(-1, largest).sign().flatten()
    variances = s.square()
    shares = (variances[:2] / variances.sum().clamp(min=torch.finfo(s.dtype).tiny)).tolist()
    return WordMap(ids, u[:, :2] * s[:2] * sign, (shares[0], shares[1]))
