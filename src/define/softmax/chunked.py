"""Cross-entropy against a large table without ever holding the logits of a whole batch."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["IGNORED", "chunked_nll", "chunks"]

IGNORED = -100  # target without loss and gradient, as in torch.nn.CrossEntropyLoss

# Logits held at a time. On a CPU they should stay in the cache, on a GPU fill the device.
_CPU_LOGITS = 2**20
_GPU_LOGITS = 2**27
_MIN_ROWS = 128  # below, the products are too thin to be fast


def chunks(rows: Tensor, num_classes: int) -> tuple[Tensor, ...]:
    """Splits rows so that their logits over `num_classes` stay within the budget."""
    budget = _CPU_LOGITS if rows.device.type == "cpu" else _GPU_LOGITS
    return rows.split(max(_MIN_ROWS, budget // num_classes))


def chunked_nll(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
    """``F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")`` in chunks.

    The logits of a chunk are computed again in the backward pass: one matrix product more, but
    nothing of size (rows, V) is ever kept. Logarithms and sums are taken in float32 or better.
    Supports gradients of first order.

    Args:
        hidden: (rows, n).
        weight: (V, n).
        bias: (V,) or None.
        targets: (rows,) ids within V, or `IGNORED`: loss and gradient 0.

    Returns:
        (rows,) negative log-likelihoods, float32 or better.
    """
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        # Autograd functions are not autocast: the products run in the chosen type all the same.
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        return _ChunkedNLL.apply(hidden, weight, bias, targets)


def _logits(hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    logits = F.linear(hidden, weight)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return logits if bias is None else logits.add_(bias)


class _ChunkedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
    ) -> Tensor:
        ignored = targets == IGNORED
        targets = targets.masked_fill(ignored, 0)
        normalizers, values = [], []
        for rows, target in zip(
            chunks(hidden, len(weight)), chunks(targets, len(weight)), strict=True
        ):
            logits = _logits(rows, weight, bias)
            normalizers.append(logits.logsumexp(-1))
            values.append(normalizers[-1] - logits.gather(-1, target[:, None]).squeeze(-1))
        ctx.save_for_backward(hidden, weight, bias, targets, ignored, torch.cat(normalizers))
        return torch.cat(values).masked_fill_(ignored, 0.0)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        hidden, weight, bias, targets, ignored, normalizers = ctx.saved_tensors
        grad = grad.masked_fill(ignored, 0.0)[:, None]
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight, dtype=grad.dtype)
        grad_bias = None if bias is None else torch.zeros_like(bias, dtype=grad.dtype)
        size = len(weight)
        for rows, target, normalizer, upstream, out in zip(
            *(chunks(t, size) for t in (hidden, targets[:, None], normalizers, grad, grad_hidden)),
            strict=True,
        ):
            p = _logits(rows, weight, bias).sub_(normalizer[:, None]).exp_().mul_(upstream)
            p.scatter_add_(-1, target, -upstream)  # d nll / d logits, times upstream
            if grad_bias is not None:
                grad_bias += p.sum(0)
            p = p.to(hidden.dtype)
            torch.mm(p, weight, out=out)
            if p.dtype == grad_weight.dtype:
                grad_weight.addmm_(p.mT, rows)
            else:  # low precision: add the chunks up in float32
                grad_weight += p.mT @ rows
        if grad_bias is not None:
            grad_bias = grad_bias.to(bias.dtype)
        return grad_hidden, grad_weight.to(weight.dtype), grad_bias, None
