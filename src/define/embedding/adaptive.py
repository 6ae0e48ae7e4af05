"""Adaptive input embedding: rare words get narrower vectors."""

from collections.abc import Sequence
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.banded import Banded
from define.embedding.base import Band
from define.embedding.contract import masked_band
from define.embedding.parameters import ParameterDict, ParameterList
from define.embedding.tables import check_cutoffs, check_sizes, resized, usual_cutoffs
from define.embedding.target import Target, balance, factorize
from define.embedding.tracing import is_traced

__all__ = ["AdaptiveEmbedding"]


class AdaptiveEmbedding(Banded):
    r"""Splits a vocabulary sorted by frequency in bands, each with a table of its own width.

    Band b has vectors of width ``map_dim / div_value**b``; where that differs from
    `embedding_dim`, a linear map without bias brings them there.

    Reference:
        | Adaptive Input Representations (Baevski & Auli 2019), Sec. 3
        | Transformer-XL (Dai et al. 2019): ``div_value=1`` and `map_dim` below `embedding_dim`

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        cutoffs: First id of each band but the first, increasing: ``[20_000, 40_000, 200_000]``. If
            omitted, a tenth and 35 % of the vocabulary, or 7.5, 15 and 75 % from 100,000 words on:
            as many as leave each band a column.
        map_dim: Width of the first band; `embedding_dim` if omitted.
        div_value: Factor by which the width falls from band to band.
        project_first: Whether the first band is projected although its width is `embedding_dim`,
            as Baevski & Auli do.
        sparse: Whether the gradients of the tables are sparse.
        std: Standard deviation of tables and output at initialization.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If `cutoffs` do not increase within the vocabulary or leave a band no width.

    Example:
        >>> AdaptiveEmbedding(10_000, 256, cutoffs=[2_000, 6_000])
        AdaptiveEmbedding(
          10000, 256, cutoffs=(2000, 6000), widths=(256, 64, 16)
          (tables): ParameterList(...)
          (projections): ParameterDict(...)
        )
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        cutoffs: Sequence[int] | None = None,
        map_dim: int | None = None,
        div_value: float = 4.0,
        project_first: bool = False,
        sparse: bool = False,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        map_dim = self.embedding_dim if map_dim is None else check_sizes(map_dim=map_dim)[0]
        self.map_dim = map_dim
        if not div_value >= 1:  # NaN too
            raise ValueError(f"{div_value=} must be at least 1.")
        if cutoffs is None:
            usual = enumerate(usual_cutoffs(num_embeddings), 1)
            cutoffs = [cutoff for b, cutoff in usual if b == 1 or map_dim >= div_value**b]
        self.cutoffs = check_cutoffs(cutoffs, num_embeddings)
        self.widths = tuple(int(map_dim / div_value**b) for b in range(len(cutoffs) + 1))
        if self.widths[-1] < 1:
            raise ValueError(f"{div_value=} leaves widths={self.widths}: each must be at least 1.")
        self.div_value = div_value
        self.project_first = project_first
        self.sparse = sparse

        like = {"device": device, "dtype": dtype}
        self.tables = ParameterList(
            torch.empty(stop - start, width, **like)
            for (start, stop), width in zip(self.ranges(), self.widths, strict=True)
        )
        # Keyed by band, since some bands have none.
        self.projections = ParameterDict(
            {
                str(b): torch.empty(embedding_dim, width, **like)
                for b, width in enumerate(self.widths)
                if width != embedding_dim or (b == 0 and project_first)
            }
        )
        self.reset_parameters()

    def ranges(self) -> list[tuple[int, int]]:
        return list(pairwise((0, *self.cutoffs, self.num_embeddings)))

    def _bands(self) -> list[Band]:
        """The bands as they are stored: the padding row may hold anything."""
        tables, projections = self.tables(), self.projections()  # see `ParameterList`
        return [
            Band(*ids, table, projections.get(str(b)))
            for b, (ids, table) in enumerate(zip(self.ranges(), tables, strict=True))
        ]

    def bands(self) -> tuple[Band, ...]:
        return tuple(masked_band(band, self.padding_idx) for band in self._bands())

    def projection(self, band: int) -> Float[Tensor, "features width"] | None:
        """Matrix that brings a band's vectors to `embedding_dim`; None where nothing does."""
        return self.projections[str(band)] if str(band) in self.projections else None

    @torch.no_grad()
    def reset_parameters(self) -> None:
        for table in self.tables:
            table.normal_(std=self.std)
        for projection in self.projections.values():
            projection.normal_(std=projection.shape[1] ** -0.5)

    def band_rows(self, band: int, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        sparse = self.sparse and not is_traced(ids)
        table, projection = self.tables()[band], self.projections().get(str(band))
        rows = F.embedding(ids, table, sparse=sparse)
        return rows if projection is None else F.linear(rows, projection)

    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        start = self.cutoffs[-1]
        if num_embeddings <= start:
            raise ValueError(f"{num_embeddings=} must be above the last of cutoffs={self.cutoffs}.")
        table = self.tables[-1]
        self.tables[-1] = nn.Parameter(
            resized(table, num_embeddings - start, mean=mean), requires_grad=table.requires_grad
        )

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets each band to the best factorization of its rows."""
        for band in self._bands():
            ids = slice(band.start, band.stop)
            part = Target(target.table[ids], target.weights[ids], target.chunk)
            if band.projection is None:
                band.table.copy_(part.table)
            else:
                left, right, _ = factorize(part, band.table.shape[1], centre=False)
                scale = balance(left, part.weights, self.std)
                band.table.copy_(left / scale)
                band.projection.copy_(right * scale)

    @torch.no_grad()
    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        for band in self._bands():
            inside = (ids >= band.start) & (ids < band.stop)
            own = rows[inside]
            if band.projection is not None:
                matrix = band.projection.double()
                own = torch.linalg.lstsq(matrix, own.double().mT).solution.mT
            band.table[ids[inside] - band.start] = own.to(band.table.dtype)

    @property
    def is_exact(self) -> bool:
        return True

    def row_cost(self) -> int:
        costs = ((b, 0 if b.projection is None else b.projection.numel()) for b in self._bands())
        return sum((b.stop - b.start) * cost for b, cost in costs) // self.num_embeddings

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, cutoffs={self.cutoffs}, widths={self.widths}"
