"""A linear layer of which the gradients alone are wanted."""

from typing import Any

import torch
from torch import Tensor

from define.embedding.shared import is_bare
from define.groups import GroupLinear

__all__ = ["unseen_linear"]

_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def unseen_linear(layer: GroupLinear, x: Tensor) -> Tensor:
    """``layer(x)`` with its first derivatives, but zeros for values where that saves the product.

    Rows that are made again for their gradient are not read: their last product, of a DeFINE
    most of what a row costs, need not be made again.

    Args:
        layer: Of one group.
        x: (rows, in_features).
    """
    changed = type(layer) is not GroupLinear or any(getattr(layer, kind) for kind in _HOOKS)
    if changed or not is_bare(layer) or torch.is_autocast_enabled(x.device.type):
        return layer(x)
    return _Unseen.apply(x, layer.weight.squeeze(0), layer.bias)


class _Unseen(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        return x.new_zeros(()).expand(len(x), len(weight))

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        (upstream,) = upstreams
        of_x, of_weight, of_bias = ctx.needs_input_grad
        return (
            upstream @ weight if of_x else None,
            upstream.mT @ x if of_weight else None,
            upstream.sum(0) if of_bias else None,
        )
