"""Vocabulary-wide logits from a table that belongs to the embedding."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from define.embedding import bands
from define.embedding.base import table_size
from define.softmax.base import Tied, own_projection

__all__ = ["TiedHead"]


class TiedHead(nn.Module):
    r"""Logits of all words: the products of projected hidden states with the rows of a Map.

    .. math:: \mathrm{logits}(h) = E P h + b

    What :class:`~define.softmax.TiedSoftmax` is to a loss, as the head that models of
    transformers expect. P (and b) are owned here, E is the embedding's and in its `state_dict`
    alone.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)

    Args:
        map: Embedding to tie to.
        in_features: Width of the hidden states.
        bias: Whether each word has a bias.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Shape:
        (\*batch, in_features) → (\*batch, V).

    Example:
        >>> TiedHead(nn.Embedding(100, 8), in_features=32)
        TiedHead(
          in_features=32, out_features=100
          (projection): Linear(in_features=32, out_features=8, bias=False)
        )
    """

    def __init__(
        self,
        map: nn.Module,
        in_features: int,
        bias: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.tied = Tied(map)
        self.in_features = in_features
        num_embeddings, map_dim = table_size(map)
        self.projection = own_projection(in_features, map_dim, device, dtype)
        self.bias = (
            nn.Parameter(torch.zeros(num_embeddings, device=device, dtype=dtype)) if bias else None
        )

    @property
    def out_features(self) -> int:
        """Size V of the vocabulary, that of the Map."""
        return table_size(self.tied.module)[0]

    def forward(self, hidden: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch classes"]:
        hidden = self.projection(hidden)
        map = self.tied.module
        parts = bands(map)
        if parts is None:
            return F.linear(hidden, self.tied.weight, self.bias)
        # Band by band at its own width, instead of building the table that they stand for.
        logits = torch.cat(
            [
                F.linear(hidden if b.projection is None else hidden @ b.projection, b.table)
                for b in parts
            ],
            -1,
        )
        padding_idx = cast(int | None, map.padding_idx)
        if padding_idx is not None:  # its row is zero, whatever the band's table holds
            ids = torch.arange(logits.shape[-1], device=logits.device)
            logits = logits.masked_fill(ids == padding_idx, 0.0)
        return logits if self.bias is None else logits + self.bias.to(logits.dtype)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """The head as one plain layer in_features → V, with a table of its own."""
        weight = self.tied.weight
        if isinstance(self.projection, nn.Linear):
            weight = weight @ self.projection.weight
        linear = nn.Linear(self.in_features, len(weight), bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(weight.clone())
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone())
        return linear

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"
