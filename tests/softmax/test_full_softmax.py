"""Full softmax against `F.cross_entropy` and `nn.Linear`."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.testing import assert_close

from define import Softmax, TiedSoftmax
from define.softmax import chunked


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("ignore_index", [-100, 7])
@pytest.mark.parametrize("rows", [1, 10])
def test_the_loss_is_cross_entropy_of_a_linear_layer(reduction, ignore_index, rows, monkeypatch):
    monkeypatch.setattr(chunked, "_CPU_LOGITS", 1)
    monkeypatch.setattr(chunked, "_MIN_ROWS", rows)
    head = Softmax(8, 30, ignore_index=ignore_index, dtype=torch.float64)
    nn.init.normal_(head.bias)
    hidden = torch.randn(25, 8, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(30, (25,))
    targets[::4] = ignore_index
    logits = F.linear(hidden, head.weight, head.bias)
    expected = F.cross_entropy(logits, targets, reduction=reduction, ignore_index=ignore_index)
    nll = head(hidden, targets)
    loss = {
        "mean": lambda: nll.sum() / (targets != ignore_index).sum(),
        "sum": nll.sum,
        "none": lambda: nll,
    }[reduction]()
    assert_close(loss, expected)
    upstream = torch.randn_like(loss)
    inputs = [hidden, head.weight, head.bias]
    assert_close(
        torch.autograd.grad(loss, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


@pytest.mark.parametrize("shift", [1e4, -1e4])
def test_large_logits_do_not_overflow(shift):
    head = Softmax(8, 30)
    nn.init.constant_(head.bias, shift)
    hidden = torch.randn(5, 8, requires_grad=True)
    nll = head(hidden, torch.arange(5))
    nll.sum().backward()
    assert nll.isfinite().all() and hidden.grad.isfinite().all()
    nn.init.zeros_(head.bias)
    assert_close(nll, head(hidden, torch.arange(5)), rtol=0, atol=1e-2)


def test_the_loss_among_large_logits_is_as_exact_as_that_of_torch():
    head = Softmax(8, 30)
    nn.init.constant_(head.bias, 1e4)
    hidden, targets = torch.randn(50, 8), torch.arange(50) % 30
    logits = F.linear(hidden, head.weight, head.bias)
    expected = F.cross_entropy(logits.double(), targets, reduction="none")
    assert_close(head(hidden, targets).double(), expected, rtol=0, atol=1e-5)


def test_parts_that_need_no_gradient_get_none():
    head = Softmax(8, 30)
    head.weight.requires_grad_(False)
    hidden = torch.randn(5, 8, requires_grad=True)
    head(hidden, torch.arange(5)).sum().backward()
    assert head.weight.grad is None and hidden.grad.any() and head.bias.grad.any()
    with torch.no_grad():
        assert not head(hidden, torch.arange(5)).requires_grad


@pytest.mark.parametrize(("in_features", "owned"), [(8, 0), (None, 0), (12, 12 * 8)])
def test_a_tied_head_owns_a_projection_only_where_widths_differ(in_features, owned):
    head = TiedSoftmax(nn.Embedding(30, 8), in_features, bias=False)
    assert sum(p.numel() for p in head.parameters()) == owned
    assert head.in_features == (in_features or 8)


@pytest.mark.parametrize("sizes", [(0, 30), (8, 0), (8, -1)])
def test_sizes_below_one_are_refused_with_their_values(sizes):
    with pytest.raises(ValueError, match=f"in_features={sizes[0]} and num_classes={sizes[1]}"):
        Softmax(*sizes)


def test_gradients_of_a_float32_table_are_summed_in_float32_under_autocast(monkeypatch):
    monkeypatch.setattr(chunked, "_CPU_LOGITS", 1)
    head, hidden = Softmax(8, 30), torch.randn(500, 8)
    with torch.autocast("cpu", torch.bfloat16):
        head(hidden, torch.randint(30, (500,))).mean().backward()
    gradient = head.weight.grad
    assert gradient.dtype == torch.float32
    assert not torch.equal(gradient, gradient.bfloat16().float())
