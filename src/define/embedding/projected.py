"""Projective embedding: a low-dimensional table and one linear map."""

from typing import cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding, map_module, reset_map
from define.groups import GroupLinear

__all__ = ["ProjectedEmbedding"]


class ProjectedEmbedding(Embedding):
    r"""Projects the rows of a narrow table to `embedding_dim`: the table has rank n.

    .. math:: e_o = W e_i, \quad e_i \in \mathbb{R}^n

    Reference:
        | DeFINE, Sec. 4 (the projective baseline, as in Dai et al. 2019)
        | ALBERT (Lan et al. 2020), Sec. 3.1 (factorized embedding parameterization)

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        map: Width n of the table, or an embedding module to use as the table.
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
        map: int | nn.Module,
        bias: bool = False,
        sparse: bool = False,
        std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        module, map_dim, std = map_module(
            map,
            num_embeddings,
            padding_idx=padding_idx,
            sparse=sparse,
            std=std,
            device=device,
            dtype=dtype,
        )
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        self.map = module
        self.map_dim = map_dim
        self.projection = GroupLinear(map_dim, embedding_dim, bias=bias, device=device, dtype=dtype)
        if not isinstance(map, nn.Module):
            reset_map(self.map, self.std)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Float[Tensor, "num_embeddings features"],
        map: int,
        padding_idx: int | None = None,
    ) -> "ProjectedEmbedding":
        """The best approximation of rank `map` of a given table (truncated SVD).

        Raises:
            ValueError: If `map` exceeds the rank that a table of this shape can have.
        """
        num_embeddings, embedding_dim = embeddings.shape
        if map > min(embeddings.shape):
            raise ValueError(f"{map=} must be at most the smaller side of {embeddings.shape=}.")
        module = cls(
            num_embeddings,
            embedding_dim,
            padding_idx,
            map=map,
            device=embeddings.device,
            dtype=embeddings.dtype,
        )
        with torch.no_grad():
            dtype = torch.promote_types(embeddings.dtype, torch.float32)  # what SVD knows
            u, s, vh = torch.linalg.svd(embeddings.to(dtype), full_matrices=False)
            root = s[:map].sqrt()
            cast(nn.Embedding, module.map).weight.copy_(u[:, :map] * root)
            module.projection.weight[0].copy_((root[:, None] * vh[:map]).mT)
        return module

    def reset_parameters(self) -> None:
        reset_map(self.map, self.std)
        self.projection.reset_parameters()

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        return self.projection(self.map(ids))
