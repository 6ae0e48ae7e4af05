"""Batches of sentence pairs, bounded by tokens and made of sentences of similar length."""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from define.data.position import PlannedBatches
from define.data.segments import PADDING
from define.translation.parallel import Sentences

_POOL = 64  # batches' worth of pairs that are sorted together


class TokenBatches(PlannedBatches[np.ndarray]):
    """Pairs of sentences in batches of at most `max_tokens` places, padding counted.

    The pairs of an epoch are shuffled by `(seed, epoch)`, cut into pools, sorted by length within
    each pool, cut into batches, and these are shuffled: a batch has little padding, and neither its
    company nor its place is the same in the next epoch. Each pair comes once an epoch. The number
    of batches varies a little from epoch to epoch.

    The batches are the same for any number of ranks: rank r takes every `world_size`-th pair of
    each. A batch is (source, targets, count): `count` are the target tokens over all ranks, and a
    rank without a pair has one whose targets are all padding.

    `state_dict` and `load_state_dict` are as in `Segments`.

    Args:
        source: Sentences to translate.
        target: Their translations.
        max_tokens: The most places of a batch, source and target together.
        padding: Id that fills up the source; targets are filled up with -100.
        shuffle: Whether to shuffle; else all pairs are sorted by length.
        seed: Of the order.
        rank: Of this process.
        world_size: The number of processes.

    Raises:
        ValueError: If a pair alone has more than `max_tokens`, or an argument is out of range.
    """

    def __init__(
        self,
        source: Sentences,
        target: Sentences,
        max_tokens: int,
        *,
        padding: int = 0,
        shuffle: bool = True,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(source) != len(target) or not len(source):
            raise ValueError(f"{len(source)=} must equal {len(target)=} and be at least 1.")
        if not 0 <= rank < world_size:
            raise ValueError(f"{rank=} must be at least 0 and below {world_size=}.")
        longest = int((source.lengths + target.lengths).max())
        if longest > max_tokens:
            raise ValueError(f"{max_tokens=} must be at least {longest}, the longest pair's.")
        self._source, self._target = source, target
        self._max_tokens = max_tokens
        self._padding = padding
        self._shuffle = shuffle
        self._seed = seed
        self._rank, self._world_size = rank, world_size
        super().__init__(
            {
                "pairs": len(source),
                "tokens": int(source.lengths.sum() + target.lengths.sum()),
                "max_tokens": max_tokens,
                "shuffle": shuffle,
                "seed": seed,
            }
        )

    def _read(self, place: np.ndarray) -> tuple[Tensor, Tensor, int]:
        mine = place[self._rank :: self._world_size]
        pairs = mine if len(mine) else place[:1]  # a batch of fewer pairs than there are ranks
        target = pad_sequence([self._target[i] for i in pairs], True, PADDING)
        return (
            pad_sequence([self._source[i] for i in pairs], True, self._padding),
            target if len(mine) else torch.full_like(target, PADDING),
            int(self._target.lengths[place].sum()),
        )

    def _make_plan(self, epoch: int) -> list[np.ndarray]:
        """The pairs of each batch, over all ranks."""
        draw = np.random.default_rng((self._seed, epoch)) if self._shuffle else None
        return token_plan(self._source.lengths, self._target.lengths, self._max_tokens, draw)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        if state["setting"].get("world_size", 1) != 1:
            raise ValueError("The position was saved by version 0.1 with several devices.")
        super().load_state_dict(state)


def token_plan(
    source: np.ndarray, target: np.ndarray, max_tokens: int, draw: np.random.Generator | None
) -> list[np.ndarray]:
    """Cut pairs of sentences into batches; see `TokenBatches`.

    Args:
        source: Tokens of each source sentence.
        target: Tokens of each target sentence.
        max_tokens: The most places of a batch.
        draw: Source of the order; sorted by length throughout if None.

    Returns:
        The numbers of the pairs of each batch.
    """
    if draw is None:
        pools = [np.arange(len(source))]
    else:
        order = draw.permutation(len(source))
        each = _POOL * max_tokens // max(1, int((source + target).mean()))
        pools = [order[start : start + each] for start in range(0, len(order), each)]
    batches: list[np.ndarray] = []
    for pool in pools:
        pool = pool[np.lexsort((pool, source[pool], target[pool]))]
        start = widest = deepest = 0
        for place, pair in enumerate(pool):
            wide, deep = max(widest, source[pair]), max(deepest, target[pair])
            if (place - start + 1) * (int(wide) + int(deep)) > max_tokens:
                batches.append(pool[start:place])
                start, wide, deep = place, source[pair], target[pair]
            widest, deepest = wide, deep
        batches.append(pool[start:])
    if draw is not None:
        batches = [batches[i] for i in draw.permutation(len(batches))]
    return batches
