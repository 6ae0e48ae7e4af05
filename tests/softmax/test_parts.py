"""Gradients of a table in parts: the same as by its definition, and written once."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from define import AdaptiveSoftmax
from define.softmax.parts import split

V, CUTOFFS, WIDTH = 5_000, [100, 1_000, 2_000], 4


def head_and_batch(targets):
    torch.manual_seed(0)
    table = nn.Embedding(V, WIDTH, dtype=torch.float64)
    head = AdaptiveSoftmax(table, cutoffs=CUTOFFS, bias=True, dtype=torch.float64)
    return table, head, torch.randn(len(targets), WIDTH, dtype=torch.float64), targets


def by_definition(table, head, hidden, targets, weights):
    log_prob = head.log_prob(hidden).gather(1, targets[:, None]).squeeze(1)
    return torch.autograd.grad(-(log_prob * weights).sum(), table.weight)[0]


@pytest.mark.parametrize("targets", [[5, 150, 1_500, 4_000, 4_999], [5, 4_000], [3]])
@pytest.mark.parametrize("equal", [True, False])
def test_gradients_are_those_of_the_definition_in_any_number_of_passes(targets, equal):
    table, head, hidden, targets = head_and_batch(torch.tensor(targets))
    weights = torch.ones(len(targets)) if equal else torch.arange(1.0, len(targets) + 1)
    expected = by_definition(table, head, hidden, targets, weights.double())
    loss = (head(hidden, targets) * weights).sum()
    loss.backward(retain_graph=True)
    first = table.weight.grad
    assert_close(first, expected)
    table.weight.grad = None
    loss.backward()
    assert_close(table.weight.grad, expected)
    assert_close(first, expected)  # the second pass wrote elsewhere


class _Made(TorchDispatchMode):
    """Counts the blocks of at least `size` bytes that are new memory."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count, self.seen = size, 0, set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage.nbytes() >= self.size and storage.data_ptr() not in self.seen:
                    self.seen.add(storage.data_ptr())
                    self.count += 1
        return result


def test_the_gradient_of_a_table_is_written_once():
    table, head, hidden, targets = head_and_batch(torch.tensor([5, 150, 1_500, 4_000]))
    with _Made(V * WIDTH * 8 // 2) as made:
        made.seen.add(table.weight.untyped_storage().data_ptr())
        head(hidden, targets).mean().backward()
    assert made.count == 1


def test_second_derivatives_are_there():
    table = torch.randn(6, 2, dtype=torch.float64, requires_grad=True)
    parts = split(table, [1, 2, 3])
    assert torch.autograd.gradgradcheck(
        lambda t: [part**3 for part, _ in split(t, [1, 2, 3])][1], table
    )
    (first,) = torch.autograd.grad((parts[1][0] ** 3).sum(), table, create_graph=True)
    assert first[0].eq(0).all() and first[3:].eq(0).all()
