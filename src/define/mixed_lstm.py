"""An LSTM layer whose products are in bfloat16, and all else in float32, for CPUs."""

from functools import cache
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from define.derivatives import check_first_derivative

__all__ = ["mixed_lstm", "mixed_lstm_pays", "multiplies_bfloat16"]

# Multiply-adds of a gate and time step below which torch's layer is faster: kernels are started
# one by one here.
_LEAST_WORK = 4_000_000

_sigmoid_gradient = torch.ops.aten.sigmoid_backward  # (gradient, sigmoid(x)) -> that of x
_tanh_gradient = torch.ops.aten.tanh_backward


@cache
def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products in bfloat16."""
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()  # torch 2.11 has none
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def mixed_lstm_pays(batch_size: int, input_size: int, hidden_size: int) -> bool:
    """Whether a layer of that size is faster with products in bfloat16 on this processor."""
    if torch.compiler.is_compiling():
        return False  # a graph of all time steps
    work = batch_size * hidden_size * (input_size + hidden_size)
    return work >= _LEAST_WORK and multiplies_bfloat16()


def mixed_lstm(
    x: Float[Tensor, "time batch inputs"],
    h: Float[Tensor, "batch hidden"],
    c: Float[Tensor, "batch hidden"],
    weight_ih: Float[Tensor, "gates inputs"],
    weight_hh: Float[Tensor, "gates hidden"],
    bias: Float[Tensor, " gates"],
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[Float[Tensor, "time batch hidden"], Float[Tensor, "batch hidden"]]:
    r"""One layer of :class:`torch.nn.LSTM` over a segment, time first, with products in `dtype`.

    .. math::
        i_t, f_t, g_t, o_t &= W_{ih} x_t + W_{hh} h_{t-1} + b \\
        c_t &= \sigma(f_t) c_{t-1} + \sigma(i_t) \tanh(g_t), \qquad h_t = \sigma(o_t) \tanh(c_t)

    At the size of AWD-LSTM a CPU spends most of its time on reading :math:`W_{hh}` at each time
    step. In bfloat16 that is half as much, and processors with such instructions multiply at more
    than twice the speed. What products read and give is rounded; gates, cell states, outputs and
    sums keep the type of the arguments, so rounding errors do not add up along the segment.

    Returns:
        Outputs of all time steps, and the last cell state. They have first derivatives only.
    """
    return _MixedLSTM.apply(x, h, c, weight_ih, weight_hh, bias, dtype)


def _tanh_(x: Tensor) -> Tensor:
    """In place; by the sigmoid, which takes a fifth of the time of torch's own on a CPU."""
    return x.mul_(2).sigmoid_().mul_(2).sub_(1)


class _MixedLSTM(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        h: Tensor,
        c: Tensor,
        weight_ih: Tensor,
        weight_hh: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
    ) -> tuple[Tensor, Tensor]:
        x, weight_ih, weight_hh = (t.to(dtype) for t in (x, weight_ih, weight_hh))
        time, (batch, hidden) = len(x), h.shape
        gates = bias.expand(time, batch, -1) + (x.flatten(0, 1) @ weight_ih.T).view(time, batch, -1)
        # Before and after each time step; `reads` are outputs as W_hh reads them.
        cells = c.new_empty(time + 1, batch, hidden)
        outputs, squashed = torch.empty_like(cells[1:]), torch.empty_like(cells[1:])
        reads = torch.empty_like(cells, dtype=dtype)
        cells[0], reads[0] = c, h
        product = torch.empty_like(gates[0], dtype=dtype)
        for t in range(time):
            gates[t] += torch.mm(reads[t], weight_hh.T, out=product)
            i, f, g, o = gates[t].chunk(4, -1)
            gates[t, :, : 2 * hidden].sigmoid_()
            _tanh_(g)
            o.sigmoid_()
            torch.mul(f, cells[t], out=cells[t + 1]).addcmul_(i, g)
            _tanh_(squashed[t].copy_(cells[t + 1]))
            reads[t + 1] = torch.mul(o, squashed[t], out=outputs[t])
        ctx.save_for_backward(x, weight_ih, weight_hh, gates, cells, squashed, reads)
        return outputs, cells[-1].clone()

    @staticmethod
    def backward(ctx: Any, *upstreams: Any) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        check_first_derivative(
            "An LSTM with products in bfloat16", "take higher ones outside of autocast"
        )
        x, weight_ih, weight_hh, gates, cells, squashed, reads = ctx.saved_tensors
        grad_outputs, grad_c = upstreams[0], upstreams[1].clone()
        weight_hh = weight_hh.T.contiguous().T  # read along its rows, the product is faster
        grad_gates = torch.empty_like(gates, dtype=x.dtype)  # before sigmoid and tanh
        grad_h = torch.zeros_like(reads[0])
        for t in reversed(range(len(gates))):
            (i, f, g, o), above = gates[t].chunk(4, -1), grad_outputs[t] + grad_h
            grad_c += _tanh_gradient(above * o, squashed[t])
            parts = (
                _sigmoid_gradient(grad_c * g, i),
                _sigmoid_gradient(grad_c * cells[t], f),
                _tanh_gradient(grad_c * i, g),
                _sigmoid_gradient(above * squashed[t], o),
            )
            torch.cat(parts, -1, out=grad_gates[t])
            grad_c *= f
            torch.mm(grad_gates[t], weight_hh, out=grad_h)
        rows, wide = grad_gates.flatten(0, 1), gates.dtype
        return (
            (rows @ weight_ih).view_as(x).to(wide) if ctx.needs_input_grad[0] else None,
            grad_h.to(wide),
            grad_c,
            (rows.T @ x.flatten(0, 1)).to(wide),
            (rows.T @ reads[:-1].flatten(0, 1)).to(wide),
            rows.sum(0, dtype=wide),
            None,
        )
