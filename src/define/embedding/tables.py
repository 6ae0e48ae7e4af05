"""What is known of any table of rows: its sizes, its padding row, how it grows."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from operator import index
from typing import SupportsIndex, cast

import torch
from torch import Tensor, nn

__all__ = [
    "check_cutoffs",
    "check_padding",
    "check_part",
    "check_sizes",
    "resized",
    "seeded",
    "table_size",
    "usual_cutoffs",
]


def table_size(map: nn.Module) -> tuple[int, int]:
    """Number of rows and width of a Map: of `torch.nn.Embedding` or any of this package.

    Raises:
        TypeError: If it is no embedding.
    """
    if not (hasattr(map, "num_embeddings") and hasattr(map, "embedding_dim")):
        raise TypeError(f"{map=} must be an embedding: torch.nn.Embedding or one of this package.")
    return cast(int, map.num_embeddings), cast(int, map.embedding_dim)


def check_part(part: nn.Module) -> None:
    """Raises ValueError if a table that others look up is to count how often ids occur."""
    if getattr(part, "scale_grad_by_freq", False):
        raise ValueError(
            f"{part} must not have scale_grad_by_freq=True: within another embedding each distinct "
            "id is looked up once."
        )


def check_sizes(**sizes: object) -> list[int]:
    """The sizes as plain integers; those of numpy and the like are taken too.

    Raises:
        TypeError: If one is no integer.
        ValueError: If one is below 1.
    """
    *names, last = [f"{name}={size!r}" for name, size in sizes.items()]
    named = f"{', '.join(names)} and {last}" if names else last
    if not all(hasattr(size, "__index__") for size in sizes.values()):
        raise TypeError(f"{named} must be {'integers' if len(sizes) > 1 else 'an integer'}.")
    integers = [index(cast(SupportsIndex, size)) for size in sizes.values()]
    if min(integers) < 1:
        raise ValueError(f"{named} must be at least 1.")
    return integers


def check_padding(padding_idx: int | None, num_embeddings: int) -> int | None:
    """The padding id counted from the front.

    Raises:
        ValueError: If it is outside of the vocabulary.
    """
    if padding_idx is None:
        return None
    if not hasattr(padding_idx, "__index__"):
        raise TypeError(f"{padding_idx=} must be an integer or None.")
    padding_idx = index(padding_idx)
    if not -num_embeddings <= padding_idx < num_embeddings:
        raise ValueError(f"{padding_idx=} must be within {num_embeddings=}.")
    return padding_idx % num_embeddings


def check_cutoffs(cutoffs: Sequence[int], num_embeddings: int) -> tuple[int, ...]:
    """The cutoffs as a tuple, if they cut the vocabulary in bands of at least one word each.

    Raises:
        TypeError: If they are no integers.
        ValueError: If they do not increase within the vocabulary.
    """
    integers = hasattr(cutoffs, "__iter__") and all(hasattr(c, "__index__") for c in cutoffs)
    if not integers:
        raise TypeError(f"{cutoffs=} must be a sequence of integers.")
    cutoffs = tuple(index(cutoff) for cutoff in cutoffs)
    if not cutoffs or any(a >= b for a, b in pairwise((0, *cutoffs, num_embeddings))):
        raise ValueError(
            f"{cutoffs=} must increase between 0 and {num_embeddings=}, and be one at least."
        )
    return cutoffs


def usual_cutoffs(num_embeddings: int) -> tuple[int, ...]:
    """Cutoffs of a vocabulary sorted by frequency: those that were measured, at any size.

    A tenth and 35 % of it, one word at least; from 100,000 words on 7.5, 15 and 75 %, as published
    for WikiText-103.

    Raises:
        ValueError: If there is one word.
    """
    if num_embeddings < 2:
        raise ValueError(f"{num_embeddings=} is too small for bands by frequency: at least 2.")
    shares = (100, 350) if num_embeddings < 100_000 else (75, 150, 750)
    return tuple(sorted({max(num_embeddings * share // 1000, 1) for share in shares}))


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The CPU's and a GPU's random numbers from a seed; what they were to give comes afterwards.

    `torch.manual_seed` would seed all devices, of which one state is put back.
    """
    gpus = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(gpus):
        torch.default_generator.manual_seed(seed)
        for gpu in gpus:
            with torch.cuda.device(gpu):
                torch.cuda.manual_seed(seed)
        yield


@torch.no_grad()
def resized(table: Tensor, size: int, *, mean: bool = False, fill: float | None = None) -> Tensor:
    """The first `size` rows of a table; where it grows, new ones stand behind them.

    Args:
        table: (rows, features).
        size: New number of rows.
        mean: Whether new rows start (nearly) at the mean of the old ones, instead of being drawn
            with their deviation.
        fill: A constant for new rows.
    """
    if size <= len(table):
        return table[:size].clone()
    new = table.new_empty(size - len(table), table.shape[1])
    if fill is not None:
        new.fill_(fill)
    else:
        wide = table.float()
        if mean:  # as transformers does: no new word is at once likelier than the old ones
            deviation, centre = torch.std_mean(wide, 0, correction=0)
            new.copy_(centre + torch.randn(new.shape, device=new.device) * deviation * 1e-4)
        else:
            new.copy_(torch.randn(new.shape, device=new.device) * wide.std(correction=0))
    return torch.cat([table, new])
