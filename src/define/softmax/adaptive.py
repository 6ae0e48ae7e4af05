"""Adaptive softmax, tied to the Map of an embedding."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding import bands
from define.embedding.tables import check_cutoffs, table_size
from define.softmax.base import OutputLayer, Tied, own_projection, reset_projection
from define.softmax.chunked import chunked_nll, chunks

__all__ = ["AdaptiveSoftmax"]


class AdaptiveSoftmax(OutputLayer):
    r"""Splits a vocabulary sorted by frequency in bands; most tokens need the first one alone.

    .. math::
        p(w \mid h) = \begin{cases}
            p_0(w \mid h) & w \text{ in the first band} \\
            p_0(c_b \mid h) \, p_b(w \mid h) & w \text{ in band } b
        \end{cases}

    The first softmax is over its band and one cluster c_b for each further band. Tables, and the
    bands' projections where there are any, are those of the Map it is tied to:

    - a :class:`~define.embedding.AdaptiveEmbedding`: its bands, at their own widths;
    - any other embedding with a `weight` (V, n): `cutoffs` cut its table.

    Reference:
        | Efficient softmax approximation for GPUs (Grave et al. 2017), Sec. 4
        | Adaptive Input Representations (Baevski & Auli 2019), Sec. 3 (tied bands)

    Args:
        map: Embedding to tie to.
        in_features: Width of the hidden states; the Map's if omitted. Where they differ, a
            projection in_features → n is owned here.
        cutoffs: First id of each band but the first, for a `map` that is one table.
        bias: Whether each class has a bias.
        cluster_bias: Whether each cluster has a bias.
        tie_projections: Whether the bands' projections are those of an adaptive `map`, instead
            of the layer's own.
        ignore_index: Target without loss and gradient.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Raises:
        ValueError: If `cutoffs` are missing, do not increase within the vocabulary, or are not
            those of an adaptive `map`.

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
        ignore_index: int = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        num_classes, map_dim = table_size(map)
        in_features = map_dim if in_features is None else in_features
        super().__init__(in_features, num_classes, ignore_index)
        parts = bands(map)
        if parts is not None:
            self.cutoffs = tuple(band.start for band in parts[1:])
            if cutoffs is not None and tuple(cutoffs) != self.cutoffs:
                raise ValueError(f"{cutoffs=} must be those of the map, {self.cutoffs}.")
            widths = tuple(band.table.shape[1] for band in parts)
            projected = [band.projection is not None for band in parts]
        else:
            if cutoffs is None:
                raise ValueError(f"cutoffs={cutoffs} must be given for a map that is one table.")
            self.cutoffs = check_cutoffs(cutoffs, num_classes)
            widths = (map_dim,) * (len(self.cutoffs) + 1)
            projected = [False] * len(widths)
        self.tied = Tied(map)
        self.sizes = tuple(
            stop - start
            for start, stop in zip((0, *self.cutoffs), (*self.cutoffs, num_classes), strict=True)
        )

        like = {"device": device, "dtype": dtype}
        self.projection = own_projection(in_features, map_dim, device, dtype)
        self.projections = nn.ParameterDict()
        if not tie_projections:
            for b, width in enumerate(widths):
                if projected[b]:
                    self.projections[str(b)] = nn.Parameter(torch.empty(map_dim, width, **like))
        clusters = len(self.cutoffs)
        self.cluster_weight = nn.Parameter(torch.empty(clusters, widths[0], **like))
        self.cluster_bias = nn.Parameter(torch.empty(clusters, **like)) if cluster_bias else None
        self.bias = nn.Parameter(torch.empty(num_classes, **like)) if bias else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws what is owned here; tables and tied projections are the embedding's to draw."""
        reset_projection(self.projection)
        for projection in self.projections.values():
            projection.normal_(std=projection.shape[0] ** -0.5)
        bound = self.cluster_weight.shape[1] ** -0.5
        self.cluster_weight.uniform_(-bound, bound)
        for bias in (self.cluster_bias, self.bias):
            if bias is not None:
                bias.zero_()

    def _tables(self) -> Sequence[Tensor]:
        parts = bands(self.tied.module)
        if parts is not None:
            return [band.table for band in parts]
        # Not slices: the backward pass of each would fill a whole table with zeros.
        return self.tied.weight.split(self.sizes)

    def _biases(self) -> Sequence[Tensor | None]:
        return [None] * len(self.sizes) if self.bias is None else self.bias.split(self.sizes)

    def _band(self, hidden: Tensor, band: int) -> Tensor:
        """Hidden states (rows, n) at the width of a band's table."""
        if str(band) in self.projections:
            matrix = self.projections[str(band)]
        else:
            parts = bands(self.tied.module)
            matrix = None if parts is None else parts[band].projection
        return hidden if matrix is None else hidden @ matrix

    def _head(self, table: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Table and bias of the first softmax: the first band's words, then the clusters."""
        weight = torch.cat([table, self.cluster_weight])
        if bias is None and self.cluster_bias is None:
            return weight, None
        own = self.cluster_bias
        bias = weight.new_zeros(self.sizes[0]) if bias is None else bias
        return weight, torch.cat(
            [bias, weight.new_zeros(len(self.cutoffs)) if own is None else own]
        )

    def rows_nll(
        self, hidden: Float[Tensor, "rows in"], targets: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        hidden = self.projection(hidden)
        tables, biases = self._tables(), self._biases()
        bands = torch.bucketize(
            targets, torch.tensor(self.cutoffs, device=targets.device), right=True
        )
        clusters = self.sizes[0] + bands - 1
        weight, bias = self._head(tables[0], biases[0])
        nll = chunked_nll(
            self._band(hidden, 0),
            weight,
            bias,
            torch.where(bands > 0, clusters, targets),
        )
        for b in range(1, len(self.sizes)):
            rows = (bands == b).nonzero().squeeze(-1)
            if len(rows):
                inner = chunked_nll(
                    self._band(hidden[rows], b),
                    tables[b],
                    biases[b],
                    targets[rows] - self.cutoffs[b - 1],
                )
                nll = nll.index_add(0, rows, inner)
        return nll

    def rows_log_prob(self, hidden: Float[Tensor, "rows in"]) -> Float[Tensor, "rows classes"]:
        hidden = self.projection(hidden)
        head = self._head_log_prob(hidden)
        parts = [head[:, : self.sizes[0]]]
        for b in range(1, len(self.sizes)):
            parts.append(head[:, self.sizes[0] + b - 1, None] + self._tail_log_prob(hidden, b))
        return torch.cat(parts, -1)

    def rows_topk(self, hidden: Float[Tensor, "rows in"], k: int) -> tuple[Tensor, Tensor]:
        tops = [self._topk(rows, k) for rows in chunks(hidden, max(self.sizes))]
        return torch.cat([values for values, _ in tops]), torch.cat([ids for _, ids in tops])

    def _head_log_prob(self, hidden: Tensor) -> Tensor:
        weight, bias = self._head(self._tables()[0], self._biases()[0])
        return F.linear(self._band(hidden, 0), weight, bias).log_softmax(-1)

    def _tail_log_prob(self, hidden: Tensor, band: int) -> Tensor:
        table, bias = self._tables()[band], self._biases()[band]
        return F.linear(self._band(hidden, band), table, bias).log_softmax(-1)

    def _topk(self, hidden: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Searches a tail band only where its cluster is likelier than the k-th best so far.

        With fewer than k words so far anything may still enter, also words of probability 0.
        """
        hidden = self.projection(hidden)
        head = self._head_log_prob(hidden)
        words, clusters = head.split([self.sizes[0], len(self.cutoffs)], -1)
        values, ids = words.topk(min(k, self.sizes[0]))
        for b in range(1, len(self.sizes)):
            cluster, found = clusters[:, b - 1], values.shape[1]
            rows = torch.arange(len(hidden), device=hidden.device)
            if found == k:
                rows = (cluster > values[:, -1]).nonzero().squeeze(-1)
                if len(rows) == 0:
                    continue
            inner = self._tail_log_prob(hidden[rows], b).topk(min(k, self.sizes[b]))
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
