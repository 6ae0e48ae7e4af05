"""Adaptive softmax, tied to the Map of an embedding."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding import Band, Embedding, bands, made_rows, map_bands, share_rows, tied_table
from define.embedding.tables import check_cutoffs, table_size
from define.embedding.tracing import is_transformed
from define.softmax.base import OutputLayer, Tied, own_projection, reset_projection
from define.softmax.chunked import IGNORED, chunked_nll, chunks
from define.softmax.parts import Room, split

__all__ = ["AdaptiveSoftmax"]


@dataclass(frozen=True)
class _Band:
    """Table and bias of a band's words, and what brings hidden states to the table's width.

    `room` gives the place for the gradient of the table, where there is one.
    """

    make: Callable[[], Tensor]
    bias: Tensor | None
    matrix: Tensor | None
    room: Room | None = None

    @property
    def table(self) -> Tensor:
        """(words, width); a computed one is made when it is first asked for."""
        return self.make()

    def reads(self, hidden: Tensor) -> Tensor:
        return hidden if self.matrix is None else hidden @ self.matrix

    def log_prob(self, hidden: Tensor) -> Tensor:
        return F.linear(self.reads(hidden), self.table, self.bias).log_softmax(-1)


def _tied_bands(map: nn.Module, first_band_only: bool) -> tuple[Band, ...]:
    """The bands whose tables are tied to: those of the embedding or its Map, or one of it all."""
    found = map_bands(map) if first_band_only else bands(map)
    if found is not None and (first_band_only or len(found) > 1):
        return found
    source = map if isinstance(map, Embedding) else cast(Tensor, map.weight)
    return (Band(0, table_size(map)[0], source),)


def _cutoffs(
    map: nn.Module, parts: Sequence[Band], cutoffs: Sequence[int] | None
) -> tuple[int, ...]:
    """Those of the bands that are tied to, or the given ones, or those of the Map."""
    tied = tuple(band.start for band in parts[1:])
    if tied:
        if cutoffs is not None and tuple(cutoffs) != tied:
            raise ValueError(f"{cutoffs=} must be those of the map, {tied}.")
        return tied
    if cutoffs is not None:
        return check_cutoffs(cutoffs, table_size(map)[0])
    inner = tuple(band.start for band in (map_bands(map) or ())[1:])
    if not inner:
        raise ValueError(f"cutoffs={cutoffs} must be given for a map that is one table.")
    return inner


class AdaptiveSoftmax(OutputLayer):
    r"""Splits a vocabulary sorted by frequency in bands; most tokens need the first one alone.

    .. math::
        p(w \mid h) = \begin{cases}
            p_0(w \mid h) & w \text{ in the first band} \\
            p_0(c_b \mid h) \, p_b(w \mid h) & w \text{ in band } b
        \end{cases}

    The first softmax is over its band and one cluster c_b for each further band. Tables, and the
    bands' projections where there are any, are those of the Map it is tied to:

    - an :class:`~define.embedding.AdaptiveEmbedding` or :class:`~define.embedding.BandedEmbedding`:
      its bands, at their own widths;
    - any other embedding: `cutoffs` cut its table. Tied to the Map of an embedding, it is the
      paper's; tied to the embedding itself, the rows that the unit computes are those of input and
      output, made once a step for both, or of the first band alone (`first_band_only`).

    Reference:
        | Efficient softmax approximation for GPUs (Grave et al. 2017), Sec. 4
        | Adaptive Input Representations (Baevski & Auli 2019), Sec. 3 (tied bands)

    Args:
        map: Embedding to tie to.
        in_features: Width of the hidden states; the Map's if omitted. Where they differ, a
            projection in_features → n is owned here.
        cutoffs: First id of each band but the first, for a `map` that is one table; those of its
            Map if omitted.
        bias: Whether each class has a bias.
        cluster_bias: Whether each cluster has a bias.
        tie_projections: Whether the bands' projections are those of an adaptive `map`, instead
            of the layer's own.
        first_band_only: Whether only the first band has the rows that `map` computes, and the tails
            are tied to the Map within it, with a projection of their own: nearly as cheap as all
            of it on the Map.
        ignore_index: Target without loss and gradient.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Raises:
        ValueError: If `cutoffs` are missing, do not increase within the vocabulary, or are not
            those of an adaptive `map`; if `first_band_only` is asked of what has no Map.

    Example:
        >>> from define import AdaptiveEmbedding
        >>> map = AdaptiveEmbedding(267_735, 256, cutoffs=[20_000, 40_000, 200_000], device="meta")
        >>> AdaptiveSoftmax(map, in_features=1024, device="meta")
        AdaptiveSoftmax(
          in_features=1024, num_classes=267735, cutoffs=(20000, 40000, 200000)
          (projection): Linear(in_features=1024, out_features=256, bias=False)
          (projections): ParameterDict()
        )
    """

    def __init__(
        self,
        map: nn.Module,
        in_features: int | None = None,
        cutoffs: Sequence[int] | None = None,
        bias: bool = False,
        cluster_bias: bool = False,
        tie_projections: bool = True,
        first_band_only: bool = False,
        ignore_index: int = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        num_classes, map_dim = table_size(map)
        in_features = map_dim if in_features is None else in_features
        super().__init__(in_features, num_classes, ignore_index)
        tail_dim = table_size(tied_table(map))[1] if first_band_only else map_dim
        if first_band_only and map_bands(map) is None:
            raise ValueError(f"{first_band_only=} needs an embedding with a Map to leave tails on.")
        parts = _tied_bands(map, first_band_only)
        self.cutoffs = _cutoffs(map, parts, cutoffs)
        self.first_band_only = first_band_only
        one_table = len(parts) == 1
        parts = parts * (len(self.cutoffs) + 1) if one_table else parts
        widths = [band.width for band in parts]
        # Projections that nothing is tied to: unwanted, or not there where a width asks for one.
        own = [
            not tie_projections or len(p) != tail_dim
            if (p := band.projection) is not None
            else band.width != tail_dim
            for band in parts
        ]
        if first_band_only:
            widths[0], own[0] = map_dim, False
        self.tied = Tied(map)
        stops = (*self.cutoffs, num_classes)
        if first_band_only or one_table:
            share_rows(map, *stops[:1] if first_band_only else stops)
        for band in parts:
            if isinstance(band.source, nn.Module):
                share_rows(band.source, *(stops if one_table else [band.stop - band.start]))
        self.sizes = tuple(
            stop - start
            for start, stop in zip((0, *self.cutoffs), (*self.cutoffs, num_classes), strict=True)
        )

        like = {"device": device, "dtype": dtype}
        self.projection = own_projection(in_features, map_dim, device, dtype)
        self.tail_projection = (
            own_projection(in_features, tail_dim, device, dtype) if first_band_only else None
        )
        self.projections = nn.ParameterDict()
        for b, width in enumerate(widths):
            if own[b]:
                self.projections[str(b)] = nn.Parameter(torch.empty(tail_dim, width, **like))
        clusters = len(self.cutoffs)
        self.cluster_weight = nn.Parameter(torch.empty(clusters, widths[0], **like))
        self.cluster_bias = nn.Parameter(torch.empty(clusters, **like)) if cluster_bias else None
        self.bias = nn.Parameter(torch.empty(num_classes, **like)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws what is owned here; tables and tied projections are the embedding's to draw."""
        for projection in (self.projection, self.tail_projection):
            if projection is not None:
                reset_projection(projection)
        for projection in self.projections.values():
            projection.normal_(std=projection.shape[0] ** -0.5)
        bound = self.cluster_weight.shape[1] ** -0.5
        self.cluster_weight.uniform_(-bound, bound)
        for bias in (self.cluster_bias, self.bias):
            if bias is not None:
                bias.zero_()

    def _bands(self) -> list[_Band]:
        """The bands as they are now; asked for once in a call."""
        map = self.tied.module
        parts = _tied_bands(map, self.first_band_only)
        one = parts[0] if len(parts) == 1 else None
        parts = parts if one is None else parts * len(self.sizes)
        rooms: list[Room | None] = [None] * len(self.sizes)
        matrices = [band.projection for band in parts]
        edges = pairwise((0, *self.cutoffs, self.num_classes))
        tables = [partial(band.rows, *ids) for band, ids in zip(parts, edges, strict=True)]
        if one is not None and isinstance(one.source, Tensor):
            # Not slices: the backward pass of each would fill a whole table with zeros.
            tables, rooms = [], []
            for part, room in split(one.table, self.sizes):
                tables.append(partial(Tensor.view_as, part, part))
                rooms.append(room)
        if self.first_band_only:
            tables[0], matrices[0] = partial(made_rows, map, self.sizes[0]), None
        for b, matrix in self.projections.items():
            matrices[int(b)] = matrix
        biases = [None] * len(self.sizes) if self.bias is None else self.bias.split(self.sizes)
        return [_Band(*band) for band in zip(tables, biases, matrices, rooms, strict=True)]

    def _head(self, band: _Band) -> tuple[Tensor, Tensor | None]:
        """Table and bias of the first softmax: the first band's words, then the clusters."""
        weight = torch.cat([band.table, self.cluster_weight])
        if band.bias is None and self.cluster_bias is None:
            return weight, None
        own = self.cluster_bias
        bias = weight.new_zeros(self.sizes[0]) if band.bias is None else band.bias
        return weight, torch.cat(
            [bias, weight.new_zeros(len(self.cutoffs)) if own is None else own]
        )

    def _projected(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Hidden states as the first band reads them, and as the tails do."""
        first = self.projection(hidden)
        return first, first if self.tail_projection is None else self.tail_projection(hidden)

    def rows_nll(
        self, hidden: Float[Tensor, "rows in"], targets: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        first, rest = self._projected(hidden)
        head, *tails = self._bands()
        bands = torch.zeros_like(targets)
        for cutoff in self.cutoffs:  # a tensor of them would make a GPU wait
            bands += targets >= cutoff
        clusters = self.sizes[0] + bands - 1
        weight, bias = self._head(head)
        nll = chunked_nll(
            head.reads(first), weight, bias, torch.where(bands > 0, clusters, targets)
        )
        for b, band in enumerate(tails, 1):
            if is_transformed():  # `vmap` takes no shapes that depend on values: all rows
                own = torch.where(bands == b, targets - self.cutoffs[b - 1], IGNORED)
                nll = nll + chunked_nll(band.reads(rest), band.table, band.bias, own)
                continue
            rows = (bands == b).nonzero().squeeze(-1)
            if len(rows):
                inner = chunked_nll(
                    band.reads(rest[rows]),
                    band.table,
                    band.bias,
                    targets[rows] - self.cutoffs[b - 1],
                    band.room,
                )
                nll = nll.index_add(0, rows, inner)
        return nll

    def rows_log_prob(self, hidden: Float[Tensor, "rows in"]) -> Float[Tensor, "rows classes"]:
        first, rest = self._projected(hidden)
        head, *tails = self._bands()
        words, clusters = self._head_log_prob(first, head)
        inner = (
            c[:, None] + band.log_prob(rest)
            for c, band in zip(clusters.unbind(1), tails, strict=True)
        )
        return torch.cat([words, *inner], -1)

    def rows_topk(self, hidden: Float[Tensor, "rows in"], k: int) -> tuple[Tensor, Tensor]:
        if is_transformed():
            return self.rows_log_prob(hidden).topk(k)
        bands = self._bands()
        tops = [self._topk(rows, k, bands) for rows in chunks(hidden, max(self.sizes))]
        return torch.cat([values for values, _ in tops]), torch.cat([ids for _, ids in tops])

    def _head_log_prob(self, hidden: Tensor, band: _Band) -> tuple[Tensor, Tensor]:
        """Log-probabilities of the first band's words, and of the clusters."""
        log_prob = F.linear(band.reads(hidden), *self._head(band)).log_softmax(-1)
        words, clusters = log_prob.split([self.sizes[0], len(self.cutoffs)], -1)
        return words, clusters

    def _topk(self, hidden: Tensor, k: int, bands: Sequence[_Band]) -> tuple[Tensor, Tensor]:
        """Searches a tail band only where its cluster is likelier than the k-th best so far.

        With fewer than k words so far anything may still enter, also words of probability 0.
        """
        first, rest = self._projected(hidden)
        words, clusters = self._head_log_prob(first, bands[0])
        values, ids = words.topk(min(k, self.sizes[0]))
        for b, band in enumerate(bands[1:], 1):
            cluster, found = clusters[:, b - 1], values.shape[1]
            rows = torch.arange(len(hidden), device=hidden.device)
            if found == k:
                rows = (cluster > values[:, -1]).nonzero().squeeze(-1)
                if len(rows) == 0:
                    continue
            inner = band.log_prob(rest[rows]).topk(min(k, self.sizes[b]))
            candidates = torch.cat([values[rows], inner.values + cluster[rows, None]], -1)
            names = torch.cat([ids[rows], inner.indices + self.cutoffs[b - 1]], -1)
            best = candidates.topk(min(k, candidates.shape[1]))
            names = names.gather(-1, best.indices)
            if found < k:
                values, ids = best.values, names
            else:
                values[rows], ids[rows] = best.values, names
        return values, ids

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, cutoffs={self.cutoffs}"
