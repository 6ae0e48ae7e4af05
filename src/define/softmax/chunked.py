"""Cross-entropy against a large table without ever holding the logits of a whole batch."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from define.derivatives import check_first_derivative
from define.embedding.tracing import is_transformed

__all__ = ["IGNORED", "chunked_nll", "chunks"]

IGNORED = -100  # target without loss and gradient, as in torch.nn.CrossEntropyLoss

# Logits held at a time. On a CPU they should stay in the cache, on a GPU fill the device.
_CPU_LOGITS = 2**20
_GPU_LOGITS = 2**27
_MIN_ROWS = 128  # below, the products are too thin to be fast


def chunks(rows: Tensor, num_classes: int) -> tuple[Tensor, ...]:
    """Splits rows so that their logits over `num_classes` stay within the budget."""
    budget = _CPU_LOGITS if rows.device.type == "cpu" else _GPU_LOGITS
    if rows.element_size() == 2 and rows.device.type == "cpu":
        budget *= 4  # faster products are sooner too thin
    return rows.split(max(_MIN_ROWS, budget // num_classes))


def chunked_nll(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    room: Callable[[], Tensor] | None = None,
) -> Tensor:
    """``F.cross_entropy(F.linear(hidden, weight, bias), targets, reduction="none")`` in chunks.

    Nothing of size (rows, V) is ever held. While the logits of a chunk are there, its gradients
    are taken too, so that no product is computed twice: they hold for any loss in which all rows
    have the same weight, such as a mean or a sum. For other losses the backward pass computes
    them again. What is frozen costs no product. Logarithms and sums are taken in float32 or better.
    Only first derivatives, but for the transforms of `torch.func`: they get the plain formula,
    logits and all.

    Args:
        hidden: (rows, n).
        weight: (V, n).
        bias: (V,) or None.
        targets: (rows,) ids within V, or `IGNORED`: loss and gradient 0.
        room: Gives the place where the gradient of `weight` is written; new memory if omitted.

    Returns:
        (rows,) negative log-likelihoods, float32 or better.
    """
    device, dtype = hidden.device.type, hidden.dtype
    if is_transformed():
        logits = F.linear(hidden, weight, bias)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        return F.cross_entropy(logits, targets, reduction="none", ignore_index=IGNORED)
    if torch.is_autocast_enabled(device) and dtype != torch.float64:  # as autocast leaves it
        # Autograd functions are not autocast: the products run in the chosen type all the same.
        dtype = torch.get_autocast_dtype(device)
    with torch.autocast(device, enabled=False):
        grad = torch.is_grad_enabled()
        return _ChunkedNLL.apply(hidden, weight, bias, targets, grad, dtype, room)


Gradients = tuple[Tensor | None, Tensor | None, Tensor | None]


def _nll(
    hidden: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    targets: Tensor,
    upstream: Tensor | None,
    dtype: torch.dtype,
    wanted: Sequence[bool] = (False,) * 3,
    room: Callable[[], Tensor] | None = None,
) -> tuple[Tensor, Gradients]:
    """Values, and the wanted gradients of the sum weighted with `upstream` (rows,)."""
    wide = torch.promote_types(dtype, torch.float32)
    values = hidden.new_empty(len(hidden), dtype=wide)
    if room is None or weight.dtype != wide:  # low precision too is summed up in float32
        room = partial(torch.empty_like, weight, dtype=wide)
    grad_hidden = torch.empty_like(hidden, dtype=dtype) if wanted[0] else None
    grad_weight = room() if wanted[1] else None
    grad_bias = None if bias is None or not wanted[2] else torch.zeros_like(bias, dtype=wide)
    hidden, weight = hidden.to(dtype), weight.to(dtype)
    # A GPU takes longer to start a kernel than to compute a small one. On a CPU the exponential
    # costs most and is taken once, but sums of V of them do not fit into float16.
    one_kernel = hidden.is_cuda or dtype == torch.float16
    start, parts = 0, chunks(hidden, len(weight))
    # One place for the logits of all chunks: a large block of new memory costs more than a pass.
    held = hidden.new_empty(len(parts[0]), len(weight))
    low = dtype != wide
    held_wide = torch.empty_like(held, dtype=wide) if low else held
    product = torch.empty_like(weight) if low and grad_weight is not None else weight
    for rows in parts:
        part = slice(start, start := start + len(rows))
        ignored = (targets[part] == IGNORED)[:, None]
        target = targets[part, None].masked_fill(ignored, 0)
        logits = torch.mm(rows, weight.mT, out=held[: len(rows)])
        if low:
            logits = held_wide[: len(rows)].copy_(logits)
        if bias is not None:
            logits += bias
        if one_kernel:
            logits = logits.log_softmax(-1)
            nll, total = -logits.gather(-1, target), torch.ones_like(target, dtype=wide)
        else:
            picked = logits.gather(-1, target)
            top = logits.amax(-1, keepdim=True)
            total = logits.sub_(top).exp_().sum(-1, keepdim=True)
            nll = total.log() + (top - picked)  # both may be large
        values[part] = nll.masked_fill_(ignored, 0.0).squeeze(-1)
        if upstream is None:
            continue
        # d nll / d logits is p times the factor of its row, which costs less in the products.
        p = logits.exp_() if one_kernel else logits
        p.scatter_add_(-1, target, -total)
        factor = upstream[part, None].to(wide).masked_fill(ignored, 0.0) / total
        if grad_bias is not None:
            grad_bias += (factor.mT @ p).squeeze(0)
        p, factor = held[: len(rows)].copy_(p) if low else p, factor.to(dtype)
        if grad_hidden is not None:
            torch.mm(p, weight, out=grad_hidden[part]).mul_(factor)
        if grad_weight is None:
            continue
        rows = rows * factor
        if not low:
            # The first chunk writes: a large table is not filled with zeros before.
            grad_weight.addmm_(p.mT, rows, beta=min(part.start, 1))
        elif part.start == 0:
            grad_weight.copy_(torch.mm(p.mT, rows, out=product))
        else:
            grad_weight += torch.mm(p.mT, rows, out=product)
    return values, (grad_hidden, grad_weight, grad_bias)


class _ChunkedNLL(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        with_gradients: bool,
        dtype: torch.dtype,
        room: Callable[[], Tensor] | None,
    ) -> Tensor:
        wanted = ctx.needs_input_grad[:3] if with_gradients else (False,) * 3
        ones = hidden.new_ones(len(hidden)) if any(wanted) else None
        values, ctx.gradients = _nll(hidden, weight, bias, targets, ones, dtype, wanted, room)
        ctx.save_for_backward(hidden, weight, bias, targets)
        ctx.dtype = dtype
        return values

    @staticmethod
    def backward(ctx: Any, *upstreams: Any) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        check_first_derivative("The chunked loss", "take higher ones of log_prob")
        (upstream,) = upstreams
        hidden, weight, bias, targets = ctx.saved_tensors
        # Given away once: to a table of any size, one more of it matters. A graph that is kept for
        # another backward pass computes them again.
        gradients, ctx.gradients = ctx.gradients, None
        # That of a mean or a sum is one number expanded, which is seen without asking the device.
        same = upstream.stride() == (0,) or (upstream == upstream[:1]).all()
        if gradients is not None and len(upstream) and same:
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(upstream[0])
        else:
            wanted = ctx.needs_input_grad[:3]
            _, gradients = _nll(hidden, weight, bias, targets, upstream, ctx.dtype, wanted)
        given = (hidden, weight, bias)
        typed = [
            None if g is None else g.to(x.dtype) for g, x in zip(gradients, given, strict=True)
        ]
        return *typed, None, None, None, None
