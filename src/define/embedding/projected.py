"""Projective embedding: a low-dimensional table and one linear map."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Band, Layer
from define.embedding.contract import masked_band
from define.embedding.factorized import FactorizedEmbedding, MakeMap
from define.embedding.family import as_bands, draw
from define.embedding.target import Target
from define.embedding.unseen import unseen_linear
from define.groups import GroupLinear

__all__ = ["ProjectedEmbedding"]


class ProjectedEmbedding(FactorizedEmbedding):
    r"""Projects the rows of a narrow table to `embedding_dim`: the table has rank n.

    .. math:: e_o = W e_i, \quad e_i \in \mathbb{R}^n

    Reference:
        | DeFINE, Sec. 4 (the projective baseline, as in Dai et al. 2019)
        | ALBERT (Lan et al. 2020), Sec. 3.1 (factorized embedding parameterization)

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        map: Width n of the table, an embedding module to use as the table, or what makes one from
            V and m.
        bias: Whether the projection has a bias (ALBERT's has).
        sparse: Whether the gradient of a table made here is sparse, as in `torch.nn.Embedding`.
        std: Standard deviation of table and output at initialization; that of a given `map` (or
            1) if omitted.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If a size is out of range or a `map` is of another vocabulary.

    Example:
        >>> ProjectedEmbedding(10_000, 400, map=128)
        ProjectedEmbedding(
          10000, 400
          (map): Embedding(10000, 128)
          (projection): GroupLinear(in_features=128, out_features=400, groups=1, bias=False)
        )
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        map: int | nn.Module | MakeMap,
        bias: bool = False,
        sparse: bool = False,
        std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            map=map,
            sparse=sparse,
            std=std,
            device=device,
            dtype=dtype,
        )
        self.bias = bias
        self.projection = GroupLinear(
            self.map_dim, embedding_dim, bias=bias, device=device, dtype=dtype
        )
        self.draw_own_map()

    @classmethod
    def from_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        cls,
        embeddings: Float[Tensor, "num_embeddings features"],
        map: int | nn.Module | MakeMap,
        padding_idx: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> "ProjectedEmbedding":
        """The best approximation of rank `map` of a given table (truncated SVD).

        Args:
            embeddings: The table (V, m).
            map: The rank n, or an embedding module to use as Map.
            padding_idx: Id whose row is zero and never trained.
            **options: `weights` of the rows and further arguments of the class.

        Raises:
            ValueError: If `map` exceeds the rank that a table of this shape can have.
        """
        if isinstance(map, int) and map > min(embeddings.shape):
            raise ValueError(f"{map=} must be at most the smaller side of {embeddings.shape=}.")
        made = super().from_pretrained(embeddings, map=map, padding_idx=padding_idx, **options)
        return cast(ProjectedEmbedding, made)

    def reset_parameters(self) -> None:
        draw(self.map, self.std)
        self.projection.reset_parameters()

    def from_map(self, e_i: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch features"]:
        return self.projection(e_i)

    def unseen_from_map(self, e_i: Float[Tensor, "rows n"]) -> Float[Tensor, "rows features"]:
        return unseen_linear(self.projection, e_i)

    def as_bands(self) -> tuple[Band, ...]:
        if self.bias:
            return super().as_bands()
        matrix = self.projection.weight.squeeze(0)  # the table is that of the Map times this
        bands = (
            replace(b, projection=matrix if b.projection is None else matrix @ b.projection)
            for b in as_bands(self.map)
        )
        return tuple(masked_band(band, self.padding_idx) for band in bands)

    def approximate(self, target: Target) -> None:
        self.approximate_through(self.projection, target)

    @property
    def is_exact(self) -> bool:
        return isinstance(self.map, nn.Embedding)

    def layers(self) -> tuple[Layer, ...]:
        return Layer("Map", 1, self.map_dim), Layer("Projection", 1, self.embedding_dim)

    def layer_outputs(self, ids: Int[Tensor, " rows"]) -> Iterator[Float[Tensor, "rows width"]]:
        e_i = self.map(ids)
        yield e_i
        yield self.without_padding(ids, self.projection(e_i))
