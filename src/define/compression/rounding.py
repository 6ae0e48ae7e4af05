"""Tables stored within a number of bytes: what is cheap is tried, the best is taken."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from math import ceil
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.compression.allocation import allocate
from define.embedding import RoundedEmbedding
from define.embedding.target import Target, check_target, principal_axes

__all__ = ["Candidate", "Compressed", "compress_table", "stored_bytes"]

_AXIS_BITS = (6, 4)  # 8 are never worth their bytes, 4 are where there are few
_CLASSES = 12
_CENTRES = 256  # a byte for each row


@dataclass(frozen=True)
class Candidate:
    """One way to store a table: its bytes, scales and all, and its weighted relative error."""

    name: str
    bytes: int
    error: float


@dataclass(frozen=True)
class Compressed:
    """A table within a number of bytes.

    Args:
        embedding: What stands for the table.
        taken: The way that was taken.
        candidates: All ways that were tried and kept to the budget, the best first.
        table_bytes: Bytes of the table in float32.
        seconds: Time that it took.
    """

    embedding: RoundedEmbedding
    taken: Candidate
    candidates: tuple[Candidate, ...] = field(repr=False)
    table_bytes: int
    seconds: float

    def __str__(self) -> str:
        width = max(len(candidate.name) for candidate in self.candidates)
        return "\n".join(
            f"{'>' if candidate is self.taken else ' '} {candidate.name:{width}}  "
            f"{candidate.bytes:>12,} bytes ({candidate.bytes / self.table_bytes:.4f})  "
            f"error {candidate.error:.3g}"
            for candidate in self.candidates
        )


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all that a module keeps, shared tensors once: its size in memory and in a file."""
    tensors = module.state_dict().values()
    return sum({id(t) if t.is_meta else t.data_ptr(): t.nbytes for t in tensors}.values())


def compress_table(
    table: Float[Tensor, "num_embeddings features"],
    weights: Float[Tensor, " num_embeddings"] | None = None,
    *,
    metric: Float[Tensor, "features features"] | None = None,
    share: float | None = None,
    max_bytes: int | None = None,
    padding_idx: int | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> Compressed:
    r"""Stores a trained table within a number of bytes, in the best of the ways that are cheap.

    Tried are plain rows of 8 and of 4 bits, with scales for whole rows or for groups of numbers,
    and coordinates in principal axes with bits by weight and by variance, of rows or of what
    k-means leaves of them. Nothing is trained.

    Args:
        table: The trained table (V, m).
        weights: What an error in each row costs, such as counts of the words (V); equal if
            omitted. Powers of counts of about 3/4 serve sentences best.
        metric: M of an error's cost, :math:`(e_i - t_i)^\top M (e_i - t_i)`, where directions are
            not alike to what reads the table; positive definite, the identity if omitted.
        share: Most bytes over those of the table in float32.
        max_bytes: Most bytes; give either.
        padding_idx: Id whose row is zero and does not count.
        report: Called with a line for each way that was tried.

    Raises:
        ValueError: If the table or the weights are not finite or do not fit one another, or
            nothing keeps to the budget.

    Example:
        >>> table = torch.randn(1000, 16) @ torch.randn(16, 64)
        >>> compressed = compress_table(table, share=1 / 16)
        >>> compressed.taken.bytes <= table.nbytes / 16
        True
    """
    start = time.perf_counter()
    size, width = table.shape
    whole = size * width * 4
    if (share is None) == (max_bytes is None):
        raise ValueError(f"Give either {share=} or {max_bytes=}.")
    if share is not None and not 0 < share <= 1:
        raise ValueError(f"{share=} must be above 0 and at most 1.")
    budget = int(whole * share) if share is not None else int(max_bytes or 0)
    nothing = RoundedEmbedding(size, width, padding_idx, bits=0, device=table.device)
    target = check_target(table.detach().float(), nothing, weights, metric=metric)
    best: RoundedEmbedding | None = None
    candidates: list[Candidate] = []
    ways, seconds = _ways(size, width), 0.0

    @lru_cache(maxsize=1)  # as large as the table
    def coordinates(num_centres: int) -> Tensor:
        left = target
        if num_centres:
            like = {"rotate": True, "num_centres": num_centres, "device": table.device}
            left = RoundedEmbedding(size, width, bits=0, **like).set_centres(target)
        return principal_axes(left, width)[0]

    for i, (name, options) in enumerate(ways.items()):
        begun = time.perf_counter()
        options |= {"padding_idx": padding_idx, "device": table.device}
        if options.get("rotate"):
            embedding = _in_axes(coordinates(options["num_centres"]), target, budget, options)
        else:
            planned = RoundedEmbedding(size, width, **_on_meta(options))
            fits = stored_bytes(planned) <= budget
            embedding = RoundedEmbedding(size, width, **options) if fits else None
        if embedding is None or stored_bytes(embedding) > budget:
            continue
        embedding.approximate(target)
        error = target.error(embedding)
        if best is None or error < min(candidate.error for candidate in candidates):
            best = embedding
        candidates.append(Candidate(name, stored_bytes(embedding), error))
        seconds += time.perf_counter() - begun
        left = seconds / len(candidates) * (len(ways) - 1 - i)
        report(
            f"{i + 1} of {len(ways)}: {name}: {candidates[-1].bytes:,} bytes, error {error:.3g}, "
            f"about {left:.0f} s left"
        )
    if best is None:
        raise ValueError(f"{budget:,} bytes are too few for {size:,} rows of {width} numbers.")
    candidates.sort(key=lambda candidate: candidate.error)
    seconds = time.perf_counter() - start
    return Compressed(best, candidates[0], tuple(candidates), whole, seconds)


def _ways(size: int, width: int) -> dict[str, dict[str, Any]]:
    """Ways to store a table: arguments by name."""
    found: dict[str, dict[str, Any]] = {}
    for bits, scale_size in ((8, None), (4, 32), (4, 128), (4, None)):
        if scale_size is None or scale_size < width:
            scales = "" if scale_size is None else f", a scale for {scale_size}"
            found[f"int{bits} rows{scales}"] = {"bits": bits, "scale_size": scale_size}
    # A byte for the centre and two for a scale are too many for narrow rows.
    for num_centres, scale_size in ((0, None), (0, 0), (_CENTRES, 0)):
        if width > 1 and (not num_centres or size >= 4 * _CENTRES):
            for axis_bits in _AXIS_BITS:
                less = f", {num_centres} centres" if num_centres else ""
                less = ", no scales" if scale_size == 0 and not num_centres else less
                found[f"bits by weight, axes of {axis_bits} bits{less}"] = {
                    "rotate": True,
                    "axis_bits": axis_bits,
                    "scale_size": scale_size,
                    "num_centres": num_centres,
                    # Few columns in a group follow the spectrum better; many unpack no faster.
                    "group_size": 8 if width < 128 else 16,
                }
    return found


def _on_meta(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "device": "meta"}


def _in_axes(
    coordinates: Tensor, target: Target, budget: int, options: dict[str, Any]
) -> RoundedEmbedding | None:
    """A plan with as many bits as the budget has room for beside the axes."""
    size, width = target.table.shape
    groups = ceil(width / options["group_size"])
    everything = RoundedEmbedding(
        size,
        width,
        bits=((8,) * groups,) * _CLASSES,
        sizes=(size, *(0,) * (_CLASSES - 1)),
        **_on_meta(options),
    )
    row_bytes = 1 if options["scale_size"] == 0 else 3
    beside = stored_bytes(everything) - size * (width + row_bytes)
    allocation = allocate(
        coordinates,
        target.weights,
        budget - beside,
        num_classes=_CLASSES,
        group_size=options["group_size"],
        row_bytes=row_bytes,
    )
    if allocation is None:
        return None
    sizes = torch.bincount(allocation.classes).tolist()
    embedding = RoundedEmbedding(size, width, bits=allocation.bits, sizes=sizes, **options)
    embedding.assign(allocation.classes)
    return embedding
