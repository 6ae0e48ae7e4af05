"""Hash embedding: rows are weighted sums of a few shared ones."""

import random

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding
from define.embedding.tables import check_sizes, resized
from define.embedding.target import Target

__all__ = ["HashEmbedding"]

_PRIME = 2**31 - 1  # products of two numbers below it fit in int64
_ITERATIONS = 50  # of conjugate gradients


class HashEmbedding(Embedding):
    r"""Combines `num_hashes` rows of a small shared table for each id, chosen by hash functions.

    .. math:: e_o(w) = \sum_{j=1}^{k} p_{wj} \, \xi_j(w) \, E_{h_j(w)}, \quad \xi_j(w) = \pm 1

    Two words that share a row seldom share all k. The importances p are learned, one number for
    each word and hash function. Hash functions are :math:`((a w + b) \bmod (2^{31} - 1)) \bmod B`
    with random a and b: the row of an id does not depend on the size of the vocabulary, and nothing
    is stored.

    Reference:
        | Hash Embeddings for Efficient Word Representations (Svenstrup et al. 2017), Sec. 3
        | Feature Hashing for Large Scale Multitask Learning (Weinberger et al. 2009), Sec. 2

    Args:
        num_embeddings: Size V of the vocabulary, at most 2^31 - 1.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        num_buckets: Rows B of the shared table.
        num_hashes: Number k of rows that are combined.
        importance: Whether the importances are learned; they are 1 if not.
        sparse: Whether the gradients of the table and of the importances are sparse.
        seed: Of the hash functions.
        std: Standard deviation of the output at initialization.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If a size is out of range.

    Example:
        >>> HashEmbedding(50_000, 300, num_buckets=5_000)
        HashEmbedding(50000, 300, num_buckets=5000, num_hashes=2)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        num_buckets: int,
        num_hashes: int = 2,
        importance: bool = True,
        sparse: bool = False,
        seed: int = 0,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        num_buckets, num_hashes = check_sizes(num_buckets=num_buckets, num_hashes=num_hashes)
        if num_embeddings > _PRIME:
            raise ValueError(f"{num_embeddings=} must be at most {_PRIME}.")
        self.num_buckets, self.num_hashes = num_buckets, num_hashes
        self.importance, self.sparse, self.seed = importance, sparse, seed
        draw = random.Random(seed)
        # For each hash function a and b of the bucket, then those of the sign.
        self._factors = [
            tuple(draw.randrange(1, _PRIME) for _ in range(4)) for _ in range(num_hashes)
        ]
        like = {"device": device, "dtype": dtype}
        self.table = nn.Parameter(torch.empty(num_buckets, embedding_dim, **like))
        self.importances = (
            nn.Parameter(torch.empty(num_embeddings, num_hashes, **like)) if importance else None
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.table.normal_(std=self.std * self.num_hashes**-0.5)
        if self.importances is not None:
            self.importances.fill_(1.0)

    def hashes(
        self, ids: Int[Tensor, " rows"]
    ) -> tuple[Int[Tensor, "rows hashes"], Float[Tensor, "rows hashes"]]:
        """Rows of the table that are combined for each id, and their factors: sign, importance."""
        a, b, c, d = torch.tensor(self._factors, device=ids.device).mT.unsqueeze(1)
        ids = ids.long()[:, None]
        buckets = (ids * a + b) % _PRIME % self.num_buckets
        factors = (1 - (ids * c + d) % _PRIME % 2 * 2).to(self.table.dtype)
        if self.importances is not None:
            factors = factors * F.embedding(ids[:, 0], self.importances, sparse=self.sparse)
        return buckets, factors

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        buckets, factors = self.hashes(ids)
        shared = F.embedding(buckets, self.table, sparse=self.sparse)  # (rows, k, m)
        return (factors[:, None] @ shared).squeeze(1)

    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        if self.importances is not None:
            grown = resized(self.importances, num_embeddings, fill=1.0)
            self.importances = nn.Parameter(grown, self.importances.requires_grad)

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets the shared rows to their least-squares solution for importances of 1.

        By conjugate gradients, so that no matrix of all pairs of shared rows is built.
        """
        self.reset_parameters()
        buckets, signs = self.hashes(torch.arange(self.num_embeddings, device=self.table.device))
        w = target.weights[:, None]

        def combined(shared: Tensor) -> Tensor:
            parts = zip(buckets.unbind(1), signs.split(1, dim=1), strict=True)
            return sum((s * shared[b] for b, s in parts), torch.zeros_like(target.table))

        def gathered(rows: Tensor) -> Tensor:
            total = torch.zeros_like(target.table[:1]).repeat(self.num_buckets, 1)
            for b, s in zip(buckets.unbind(1), signs.split(1, dim=1), strict=True):
                total.index_add_(0, b, s * w * rows)
            return total

        residual = target.table.clone()
        slope = direction = gathered(residual)
        solution, power = torch.zeros_like(slope), slope.square().sum()
        for _ in range(min(self.num_buckets, _ITERATIONS)):
            moved = combined(direction)
            step = power / (w * moved.square()).sum().clamp_min(torch.finfo(power.dtype).tiny)
            solution, residual = solution + step * direction, residual - step * moved
            slope, before = gathered(residual), power
            power = slope.square().sum()
            direction = slope + power / before.clamp_min(torch.finfo(power.dtype).tiny) * direction
        self.table.copy_(solution)

    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        if self.importances is None:
            raise TypeError(
                "HashEmbedding cannot set rows with importance=False: all that it has is shared "
                "with other words."
            )
        self.importances[ids] = 1.0
        buckets, signs = self.hashes(ids)
        shared = self.table[buckets] * signs[..., None]  # (rows, k, m)
        found = torch.linalg.lstsq(shared.double().mT, rows.double()[..., None]).solution
        self.importances[ids] = found.squeeze(-1).to(self.importances.dtype)

    def row_cost(self) -> int:
        return self.num_hashes * self.embedding_dim

    def extra_repr(self) -> str:
        sizes = f"num_buckets={self.num_buckets}, num_hashes={self.num_hashes}"
        return f"{super().extra_repr()}, {sizes}"
