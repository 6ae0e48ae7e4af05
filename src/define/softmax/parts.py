"""A table in parts, and their gradients side by side in one."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from define.embedding.tracing import is_traced

__all__ = ["Room", "split"]

Room = Callable[[], Tensor]  # gives the place of a gradient, to be written in whole


def split(table: Tensor, sizes: Sequence[int]) -> list[tuple[Tensor, Room | None]]:
    """``table.split(sizes)``, and for each part where its gradient is best written.

    The gradient of a large table is then written once. Joined from those of the parts it would be
    written twice, in new memory, which takes longer than many a product.
    """
    if is_traced(table) or not (table.requires_grad and torch.is_grad_enabled()):
        return [(part, None) for part in table.split(list(sizes))]
    whole = _Whole(table.detach(), sizes)
    return [(part, partial(whole.part, i)) for i, part in enumerate(_Split.apply(table, whole))]


class _Whole:
    """The gradient of a table, for one backward pass."""

    def __init__(self, table: Tensor, sizes: Sequence[int]) -> None:
        self.table, self.sizes = table, list(sizes)
        self.gradient: Tensor | None = None

    def part(self, index: int) -> Tensor:
        if self.gradient is None:
            self.gradient = torch.empty_like(self.table)
        return self.gradient.split(self.sizes)[index]


class _Split(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, whole: _Whole) -> tuple[Tensor, ...]:  # noqa: ANN401
        ctx.set_materialize_grads(False)
        ctx.whole = whole
        return table.split(whole.sizes)

    @staticmethod
    def backward(ctx: Any, *upstreams: Any) -> tuple[Tensor, None]:  # noqa: ANN401
        whole, gradient = ctx.whole, ctx.whole.gradient
        whole.gradient = None  # given away: another backward pass makes its own
        table, sizes = whole.table, whole.sizes
        if gradient is None or torch.is_grad_enabled():
            pairs = zip(upstreams, sizes, strict=True)
            return torch.cat(
                [table.new_zeros(n, *table.shape[1:]) if g is None else g for g, n in pairs]
            ), None
        for part, given in zip(gradient.split(sizes), upstreams, strict=True):
            if given is None:
                part.zero_()
            elif given.data_ptr() != part.data_ptr():
                part.copy_(given)
        return gradient, None
