"""Averaged SGD against torch's SGD, the mean of its iterates, and the rule written out."""

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from define.training import NTASGD, AveragedSGD


def parameters():
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(3, 2)), nn.Parameter(torch.randn(4))]


def steps(optimizer, weights, count, first=0):
    """Steps with made-up gradients, each with a learning rate of its own; gives the iterates."""
    iterates = []
    for step in range(first, first + count):
        draw = torch.Generator().manual_seed(step)
        for group in optimizer.param_groups:
            group["lr"] = 0.1 + 0.05 * (step % 3)
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=draw)
        optimizer.step()
        iterates.append([weight.detach().clone() for weight in weights])
    return iterates


def assert_means(weights, iterates):
    for weight, *values in zip(weights, *iterates, strict=True):
        torch.testing.assert_close(weight.detach(), torch.stack(values).mean(0))


def test_before_the_trigger_it_is_sgd_to_the_last_bit():
    ours, theirs = parameters(), parameters()
    steps(NTASGD(ours, weight_decay=0.01), ours, 7)
    steps(torch.optim.SGD(theirs, weight_decay=0.01), theirs, 7)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_averaging_changes_no_iterate_and_keeps_their_mean():
    ours, theirs = parameters(), parameters()
    optimizer = NTASGD(ours, nonmonotone=0)
    steps(optimizer, ours, 3)
    for loss in (1.0, 2.0):
        optimizer.observe(loss)
    iterates = steps(optimizer, ours, 5, first=3)
    steps(torch.optim.SGD(theirs, weight_decay=1.2e-6), theirs, 8)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    optimizer.swap()
    assert optimizer.averaged == 5
    assert_means(ours, iterates)
    optimizer.swap()
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_all_iterates_from_the_first_step_on():
    weights = parameters()
    optimizer = AveragedSGD(weights)
    optimizer.swap()  # nothing yet
    iterates = steps(optimizer, weights, 4)
    optimizer.swap()
    assert_means(weights, iterates)


@given(losses=st.lists(st.integers(0, 9), max_size=15), interval=st.integers(0, 5))
def test_the_trigger_is_the_published_rule(losses, interval):
    """Algorithm 1: with t > n validations before, v worse than the best of the first t - n."""
    optimizer = NTASGD([nn.Parameter(torch.zeros(1))], nonmonotone=interval)
    logs, triggered = [], False
    for loss in losses:
        t = len(logs)
        triggered |= t > interval and loss > min(logs[: t - interval])
        logs.append(loss)
        optimizer.observe(loss)
        assert (optimizer.averaged is not None) == triggered


@pytest.mark.parametrize("way", ["state_dict", "deepcopy", "pickle"])
@pytest.mark.parametrize("begun", [False, True])
def test_it_goes_on_from_what_was_saved(way, begun):
    def prepared():
        weights = parameters()
        optimizer = NTASGD(weights, nonmonotone=1)
        for loss in (1.0, 2.0, 3.0) if begun else (1.0, 2.0):
            optimizer.observe(loss)
        steps(optimizer, weights, 3)
        return optimizer, weights

    optimizer, weights = prepared()
    if way == "state_dict":
        other_weights = [nn.Parameter(weight.detach().clone()) for weight in weights]
        other = NTASGD(other_weights)
        other.load_state_dict(pickle.loads(pickle.dumps(optimizer.state_dict())))
    else:
        other = copy.deepcopy(optimizer) if way == "deepcopy" else None
        other = other or pickle.loads(pickle.dumps(optimizer))
        other_weights = other.param_groups[0]["params"]
    for one, its in ((optimizer, weights), (other, other_weights)):
        one.observe(3.0)  # the trigger, where it has not been
        steps(one, its, 3, first=3)
        assert one.averaged == (6 if begun else 3)
        one.swap()
    assert all(torch.equal(a, b) for a, b in zip(weights, other_weights, strict=True))


def test_a_negative_interval_is_named():
    with pytest.raises(ValueError, match="nonmonotone=-1"):
        NTASGD(parameters(), nonmonotone=-1)
