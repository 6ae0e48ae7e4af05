"""Small whole numbers of a few bits each, packed in bytes row by row."""

import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import torch
from jaxtyping import Int, Integer, UInt8
from torch import Tensor

from define.embedding.tracing import is_traced

__all__ = ["Columns", "bits_of_classes", "pack", "unpack"]


def bits_of_classes(
    bits: int | Sequence[Sequence[int]], groups: int
) -> tuple[tuple[int, ...], ...]:
    """The bits of each group of columns, for each class of rows; a number is that of all.

    Raises:
        ValueError: If classes are none or too many for a byte, have bits for another number of
            groups, or more than eight.
    """
    table = ((bits,) * groups,) if isinstance(bits, int) else tuple(map(tuple, bits))
    if not 1 <= len(table) <= 256 or any(len(row) != groups for row in table):
        raise ValueError(
            f"{bits=} must be a number, or {groups} for each of 1 to 256 classes of rows."
        )
    if not all(0 <= number <= 8 for row in table for number in row):
        raise ValueError(f"{bits=} must be 0 to 8.")
    return table


class Columns(NamedTuple):
    """Columns of which each group has one number of bits; the last group may be cut.

    Example:
        >>> Columns((4, 2), group_size=3, size=5).each()
        (4, 4, 4, 2, 2)
    """

    bits: tuple[int, ...]
    group_size: int
    size: int

    def each(self) -> tuple[int, ...]:
        """Bits of each column."""
        return tuple(self.bits[column // self.group_size] for column in range(self.size))

    def width(self) -> int:
        """Bytes of a packed row."""
        return -(-sum(self.each()) // 8)


@lru_cache(maxsize=256)
@torch.inference_mode(False)  # gradients may read them later
def _layout(columns: Columns, device: torch.device) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Of each column that has bits: its first byte, its shift within it, and its mask.

    Last, whether a column crosses the border of a byte: none does with 1, 2, 4 or 8 bits.
    """
    starts, start = [], 0
    for number in columns.each():
        starts.append(start)
        start += number
    used = [(s, b) for s, b in zip(starts, columns.each(), strict=True) if b]
    first = torch.tensor([s // 8 for s, _ in used], dtype=torch.int64, device=device)
    # 16-bit words, half the traffic of wider ones: a sign that is shifted in is masked out.
    shift = torch.tensor([s % 8 for s, _ in used], dtype=torch.int16, device=device)
    mask = torch.tensor([2**b - 1 for _, b in used], dtype=torch.int16, device=device)
    return first, shift, mask, any(s % 8 + b > 8 for s, b in used)


def pack(codes: Int[Tensor, "rows columns"], columns: Columns) -> UInt8[Tensor, "rows width"]:
    """Packs numbers below 2^bits, at most 8 bits each, one column after the other.

    Args:
        codes: Numbers, of those columns alone that have bits.
        columns: All of them.
    """
    first, shift, *_ = _layout(columns, codes.device)
    words = codes.int() << shift.int()  # a column crosses at most one border of bytes
    packed = words.new_zeros(len(codes), columns.width() + 1)
    packed.index_add_(1, first, words & 255)  # no bit is set twice: the sum is the union
    packed.index_add_(1, first + 1, words >> 8)
    return packed[:, :-1].to(torch.uint8)


def unpack(
    packed: UInt8[Tensor, "rows width"], columns: Columns
) -> Integer[Tensor, "rows columns"]:
    """The numbers of those columns that have bits."""
    if set(columns.bits) == {8}:  # as they are
        return packed
    if set(columns.bits) == {4}:  # the lower half of a byte first
        if is_traced(packed) or sys.byteorder == "big":
            codes = torch.stack([packed & 15, packed >> 4], -1).flatten(1)
        else:  # many at once: both halves moved into the two bytes of one word
            words = packed.short()
            codes = words.bitwise_or_(words << 4).bitwise_and_(0x0F0F).view(torch.uint8)
        return codes[:, : columns.size]
    first, shift, mask, crosses = _layout(columns, packed.device)
    words = packed.T.contiguous().short()  # whole columns are copied several times faster
    if crosses:
        words[:-1] |= words[1:] << 8
    codes = words.index_select(0, first)
    return codes.bitwise_right_shift_(shift[:, None]).bitwise_and_(mask[:, None]).mT
