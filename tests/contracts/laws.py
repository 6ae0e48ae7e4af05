"""What the contracts of all parts share."""

import io

import torch
from torch import nn


def randomize(module, std=0.5):
    """All parameters, also those that are zero at first: no law holds by accident then."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def gradients(output, module, *inputs, weighted=True):
    """Of a sum: one in which each element has a weight of its own, or all have the same."""
    tensors = [*inputs, *module.parameters()]
    weights = torch.full_like(output, -0.7)
    if weighted:
        weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), tensors, materialize_grads=True)


def assert_state_round_trip(make):
    """No key twice, one owner for each parameter, and everything comes back."""
    module, other = randomize(make()), randomize(make())
    state = module.state_dict()
    pointers = [t.data_ptr() for t in state.values() if t.numel()]
    assert len(set(pointers)) == len(pointers)
    named = [*module.named_parameters(), *module.named_buffers()]
    assert set(state) == {name for name, _ in named}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    return module, other


def assert_every_parameter_is_reached(loss, module):
    loss.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        assert parameter.grad.isfinite().all(), name
