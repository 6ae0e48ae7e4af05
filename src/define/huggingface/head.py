"""Vocabulary-wide logits from a table that belongs to an embedding."""

from types import MethodType
from typing import Any, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from define.embedding import bands, made_rows, share_rows, tied_table
from define.embedding.base import table_size
from define.embedding.readonly import ReadOnly
from define.embedding.shared import is_bare
from define.embedding.tracing import is_traced
from define.huggingface.scaled import unscaled
from define.softmax.base import own_projection

__all__ = ["TiedHead"]

_CHUNK = 8192  # rows computed at a time, and computed again for the gradient


class TiedHead(nn.Module):
    r"""Logits of all words: the products of projected hidden states with the rows of a table.

    .. math:: \mathrm{logits}(h) = E P h + b

    What :class:`~define.softmax.TiedSoftmax` is to a loss, as the head that models of
    transformers expect. E is the Map of the embedding, or with `computed` the rows that the whole
    embedding gives; they are made once a step, for look-ups and logits together. P is owned here;
    so is b, None until a model's is put here. The embedding is registered here too, so that
    replicas, hooks and adapters reach it; once one of these is in between, it is called as a
    module instead of its table being read.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)

    Args:
        embedding: Embedding to tie to.
        in_features: Width of the hidden states.
        computed: Whether E is the table that the embedding stands for, instead of its Map.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Shape:
        (\*batch, in_features) → (\*batch, V).

    Example:
        >>> TiedHead(nn.Embedding(100, 8), in_features=32)
        TiedHead(
          in_features=32, out_features=100
          (embedding): Embedding(100, 8)
          (projection): Linear(in_features=32, out_features=8, bias=False)
        )
    """

    def __init__(
        self,
        embedding: nn.Module,
        in_features: int,
        *,
        computed: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.in_features = in_features
        self.computed = computed
        self.projection = own_projection(in_features, table_size(self.tied)[1], device, dtype)
        self.bias: nn.Parameter | None = None
        if self.is_computed:
            share_rows(self.tied, self.out_features)

    @property
    def tied(self) -> nn.Module:
        """The module whose rows E is made of."""
        embedding = unscaled(self.embedding)
        return embedding if self.computed else tied_table(embedding)

    @property
    def is_computed(self) -> bool:
        """Whether E is computed, instead of stored as a table or bands of one."""
        return not isinstance(self.tied, nn.Embedding) and bands(self.tied) is None

    @property
    def out_features(self) -> int:
        """Size V of the vocabulary."""
        return table_size(self.embedding)[0]  # an adapter around the Map does not say

    @property
    def weight(self) -> Float[Tensor, "classes in"]:
        """The table E P of one linear layer with the same logits, for models that read it.

        Where accelerate has put the parameters elsewhere until they are needed, it has a shape and
        a type alone, as those of plain layers have.
        """
        first = next(self.embedding.parameters(), None)
        if first is not None and first.is_meta:
            shape = (self.out_features, self.in_features)
            return torch.empty(shape, dtype=first.dtype, device="meta")
        rows = self._rows(None)
        if isinstance(self.projection, nn.Linear):
            rows = rows @ self.projection.weight
        computed = not isinstance(rows, nn.Parameter) and not is_traced(rows)
        return rows.as_subclass(ReadOnly) if computed else rows

    def forward(self, hidden: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch classes"]:
        hidden = self.projection(hidden)
        tables = bands(self.tied) if is_bare(self.embedding) else None
        if tables is None:
            return F.linear(hidden, self._rows(hidden.device), self.bias)
        # Band by band at its own width, instead of building the table that they stand for.
        parts = []
        for band in tables:
            rows = hidden if band.projection is None else hidden @ band.projection
            parts.append(F.linear(rows, band.table))
        logits = torch.cat(parts, -1)
        return logits if self.bias is None else logits + self.bias.to(logits.dtype)

    def _rows(self, device: torch.device | None) -> Tensor:
        return made_rows(self.tied) if is_bare(self.embedding) else self._called_rows(device)

    def _called_rows(self, device: torch.device | None) -> Tensor:
        unit = self.embedding
        if not hasattr(unit, "unshard"):
            return _table_rows(unit, self.computed, device)
        # FSDP2 gathers parameters around the methods of a unit that it is told of.
        if not hasattr(unit, "table_rows"):
            from torch.distributed.fsdp import register_fsdp_forward_method

            cast(Any, unit).table_rows = MethodType(_table_rows, unit)
            register_fsdp_forward_method(unit, "table_rows")
        return cast(Any, unit).table_rows(self.computed, device)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """The head as one plain layer in_features → V, with a table of its own."""
        weight = self.weight.clone()
        linear = nn.Linear(self.in_features, len(weight), bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone())
        return linear

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _table_rows(unit: nn.Module, computed: bool, device: torch.device | None) -> Tensor:
    """All rows of the table that a head reads, by calling the modules that give them."""
    embedding = unscaled(unit)
    table = embedding if computed else tied_table(embedding)
    if device is None:
        device = next(table.parameters()).device
    chunks = torch.arange(table_size(unit)[0], device=device).split(_CHUNK)
    if len(chunks) == 1 or not torch.is_grad_enabled():
        return torch.cat([table(chunk) for chunk in chunks])
    return torch.cat(
        [cast(Tensor, checkpoint(table, chunk, use_reentrant=False)) for chunk in chunks]
    )
