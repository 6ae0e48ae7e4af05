"""Exact softmax over the whole vocabulary, with a table of its own or tied to an embedding."""

from abc import abstractmethod

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding import share_rows
from define.embedding.tables import table_size
from define.softmax.base import OutputLayer, Tied, own_projection, reset_projection
from define.softmax.chunked import chunked_nll, chunks

__all__ = ["Softmax", "TiedSoftmax"]


class _FullSoftmax(OutputLayer):
    """Softmax over the products of projected hidden states with all rows of a table."""

    bias: nn.Parameter | None
    projection: nn.Module

    @property
    @abstractmethod
    def table(self) -> Tensor:
        """(V, n) one row a class."""

    def rows_nll(
        self, hidden: Float[Tensor, "rows in"], targets: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        hidden = self.projection(hidden)
        return chunked_nll(hidden, self.table, self.bias, targets)

    def rows_log_prob(self, hidden: Float[Tensor, "rows in"]) -> Float[Tensor, "rows classes"]:
        logits = F.linear(self.projection(hidden), self.table, self.bias)
        return logits.log_softmax(-1)

    def rows_topk(self, hidden: Float[Tensor, "rows in"], k: int) -> tuple[Tensor, Tensor]:
        tops = [self.rows_log_prob(rows).topk(k) for rows in chunks(hidden, self.num_classes)]
        return torch.cat([top.values for top in tops]), torch.cat([top.indices for top in tops])


class Softmax(_FullSoftmax):
    r"""Softmax with a table of its own.

    .. math:: \log p(w \mid h) = \log \mathrm{softmax}(W h + b)_w

    Args:
        in_features: Width of the hidden states.
        num_classes: Size V of the vocabulary.
        bias: Whether each class has a bias.
        ignore_index: Target without loss and gradient.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Example:
        >>> head = Softmax(400, 10_000)
        >>> nll = head(torch.randn(20, 70, 400), torch.randint(10_000, (20, 70)))
        >>> nll.shape
        torch.Size([20, 70])
    """

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        bias: bool = True,
        ignore_index: int = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, num_classes, ignore_index)
        like = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(num_classes, in_features, **like))
        self.bias = nn.Parameter(torch.empty(num_classes, **like)) if bias else None
        self.projection = nn.Identity()
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        bound = self.in_features**-0.5  # as in torch.nn.Linear
        self.weight.uniform_(-bound, bound)
        if self.bias is not None:
            self.bias.zero_()

    @property
    def table(self) -> Tensor:
        return self.weight


class TiedSoftmax(_FullSoftmax):
    r"""Softmax whose table is that of an embedding, or of its Map.

    .. math:: \log p(w \mid h) = \log \mathrm{softmax}(E P h + b)_w

    P brings hidden states to the table's width n and is owned here; where the widths agree there
    is none. The table stays the embedding's: it is in the embedding's `state_dict` alone.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)
        | Using the Output Embedding to Improve Language Models (Press & Wolf 2017)

    What is passed is what is tied: the Map of an embedding (the paper), or the embedding itself.
    Then the rows that the unit computes are those of input and output. They are made once a step
    for both, in chunks that the backward pass computes again, and once in evaluation.

    Args:
        map: Embedding to tie to: `torch.nn.Embedding` or any of this package, such as the Map of
            another.
        in_features: Width of the hidden states; n if omitted.
        bias: Whether each class has a bias.
        ignore_index: Target without loss and gradient.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Example:
        >>> TiedSoftmax(nn.Embedding(10_000, 128), in_features=400)
        TiedSoftmax(
          in_features=400, num_classes=10000
          (projection): Linear(in_features=400, out_features=128, bias=False)
        )
    """

    def __init__(
        self,
        map: nn.Module,
        in_features: int | None = None,
        bias: bool = True,
        ignore_index: int = -100,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        num_classes, map_dim = table_size(map)
        in_features = map_dim if in_features is None else in_features
        super().__init__(in_features, num_classes, ignore_index)
        self.tied = Tied(map)
        share_rows(map, num_classes)
        self.projection = own_projection(in_features, map_dim, device, dtype)
        self.bias = (
            nn.Parameter(torch.zeros(num_classes, device=device, dtype=dtype)) if bias else None
        )

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws what is owned here; the table is the embedding's to draw."""
        reset_projection(self.projection)
        if self.bias is not None:
            self.bias.zero_()

    @property
    def table(self) -> Tensor:
        return self.tied.weight
