"""An embedding of bands: frequent and rare words, each with an embedding of their own."""

from abc import abstractmethod
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding
from define.embedding.contract import Band, masked_band, moved_band
from define.embedding.family import (
    approximate,
    as_bands,
    draw,
    is_exact,
    map_bands,
    resize,
    row_cost,
    set_rows,
    solve,
    solved_parameters,
)
from define.embedding.tables import check_part, table_size
from define.embedding.target import Target

__all__ = ["Banded", "BandedEmbedding"]


class Banded(Embedding):
    """Base of embeddings that cut a vocabulary, sorted by frequency, in bands."""

    @abstractmethod
    def ranges(self) -> list[tuple[int, int]]:
        """First id and first id beyond, for each band."""

    @abstractmethod
    def band_rows(self, band: int, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        """Rows of a band for ids counted from its start."""

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        # Ids ascend, so each band is one slice: no masks, no scattering.
        starts = [start for start, _ in self.ranges()]
        cutoffs = torch.tensor(starts[1:], device=ids.device, dtype=ids.dtype)
        stops = torch.searchsorted(ids, cutoffs).tolist()
        slices = pairwise((0, *stops, len(ids)))
        parts = zip(starts, slices, strict=True)
        return torch.cat(
            [self.band_rows(b, ids[i:j] - start) for b, (start, (i, j)) in enumerate(parts)]
        )

    def traced_rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        # Every band for every id. Ids outside of the vocabulary stay so in the bands at its ends.
        total = None
        for b, (start, stop) in enumerate(self.ranges()):
            inner = ids - start
            inner = inner.clamp_min(0) if start else inner
            inner = inner.clamp_max(stop - start - 1) if stop < self.num_embeddings else inner
            outside = (ids < start) | (ids >= stop)
            rows = self.band_rows(b, inner).masked_fill(outside[:, None], 0.0)
            total = rows if total is None else total + rows
        return cast(Tensor, total)


class BandedEmbedding(Banded):
    """Joins embeddings of one width: the first words are the first one's, and so on.

    Each part is `torch.nn.Embedding` or any of this package, so that frequent words may have rows
    of their own and rare ones computed rows. An :class:`AdaptiveEmbedding` is the special case of
    a table and projected tables.

    An :class:`~define.AdaptiveSoftmax` ties to it band by band: to a part's table, with the
    projection of it where there is one; to the rows that a part computes, or with
    `first_band_only` to the Map within it, for all bands but the first.

    Args:
        num_embeddings: Size V of the vocabulary, that of all parts together.
        embedding_dim: Width m of every part.
        padding_idx: Id whose row is zero and never trained.
        parts: The embeddings, of the most frequent words first.
        std: Deviation with which parts are drawn anew; that of the first part if omitted. They are
            taken as they are at first.

    Raises:
        ValueError: If widths or sizes do not fit, or a table has `scale_grad_by_freq`.
        TypeError: If a part is no embedding.

    Example:
        >>> from define import DeFINE
        >>> frequent, rare = nn.Embedding(1_000, 64), DeFINE(9_000, 64, map=16, expand_dim=128)
        >>> embedding = BandedEmbedding(10_000, 64, parts=[frequent, rare])
        >>> embedding(torch.tensor([5, 5_000])).shape
        torch.Size([2, 64])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        parts: Sequence[nn.Module],
        std: float | None = None,
    ) -> None:
        sizes = [table_size(part) for part in parts]
        for part in parts:
            check_part(part)
        if not sizes or {width for _, width in sizes} != {embedding_dim}:
            widths = [width for _, width in sizes]
            raise ValueError(f"The parts have widths {widths}: each must be {embedding_dim=}.")
        if sum(size for size, _ in sizes) != num_embeddings:
            raise ValueError(
                f"The parts have {[size for size, _ in sizes]} rows, which must be "
                f"{num_embeddings=} in all."
            )
        std = cast(float, getattr(parts[0], "std", 1.0)) if std is None else std
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        self.parts = nn.ModuleList(parts)

    def ranges(self) -> list[tuple[int, int]]:
        stops = [0]
        for part in self.parts:
            stops.append(stops[-1] + table_size(part)[0])
        return list(pairwise(stops))

    def band_rows(self, band: int, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        return self.parts[band](ids)

    def reset_parameters(self) -> None:
        for part in self.parts:
            draw(part, self.std)

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"parts": list(self.parts)}

    def bands(self) -> tuple[Band, ...]:
        return self._joined([as_bands(part) for part in self.parts])

    def map_bands(self) -> tuple[Band, ...] | None:
        found = [map_bands(part) for part in self.parts]
        if all(bands is None for bands in found):
            return None
        pairs = zip(found, self.parts, strict=True)
        return self._joined([as_bands(part) if b is None else b for b, part in pairs])

    def _joined(self, bands: Sequence[tuple[Band, ...]]) -> tuple[Band, ...]:
        pairs = zip(self.ranges(), bands, strict=True)
        moved = [moved_band(band, start) for (start, _), part in pairs for band in part]
        return tuple(masked_band(band, self.padding_idx) for band in moved)

    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        start, _ = self.ranges()[-1]
        if num_embeddings <= start:
            raise ValueError(
                f"{num_embeddings=} must be above {start}, where the last part begins."
            )
        resize(self.parts[-1], num_embeddings - start, mean)

    def approximate(self, target: Target) -> None:
        for part, own in self._targets(target):
            approximate(part, own)

    @property
    def is_exact(self) -> bool:
        return all(is_exact(part) for part in self.parts)

    def solve(self, target: Target) -> bool:
        return any([solve(part, own) for part, own in self._targets(target)])

    def solved_parameters(self) -> list[nn.Parameter]:
        return [parameter for part in self.parts for parameter in solved_parameters(part)]

    def _targets(self, target: Target) -> list[tuple[nn.Module, Target]]:
        return [
            (part, Target(target.table[i:j], target.weights[i:j], target.chunk))
            for part, (i, j) in zip(self.parts, self.ranges(), strict=True)
        ]

    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        for part, (start, stop) in zip(self.parts, self.ranges(), strict=True):
            inside = (ids >= start) & (ids < stop)
            set_rows(part, ids[inside] - start, rows[inside])

    def row_cost(self) -> int:
        costs = [table_size(part)[0] * row_cost(part) for part in self.parts]
        return sum(costs) // self.num_embeddings
