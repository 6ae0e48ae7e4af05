"""The whole table is there to be read: writing into it is an error that says what to do."""

import copy
import pickle

import pytest
import torch
import torch.nn.functional as F
from laws import randomize
from makers import OURS, M, V, define
from torch import nn
from torch.testing import assert_close

our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)

WRITES = {
    "init": lambda w: nn.init.normal_(w),
    "init-xavier": lambda w: nn.init.xavier_uniform_(w),
    "index": lambda w: w.__setitem__(3, 1.0),
    "copy": lambda w: w.copy_(torch.ones(V, M)),
    "data-copy": lambda w: w.data.copy_(torch.ones(V, M)),
    "data-index": lambda w: w.data.__setitem__(3, 1.0),
    "data-normal": lambda w: w.data.normal_(),
    "data-set": lambda w: setattr(w, "data", torch.ones(V, M)),
    "row": lambda w: w[3].fill_(1.0),
    "rows": lambda w: w[3:5].zero_(),
    "transposed": lambda w: w.T.mul_(2.0),
    "split": lambda w: w.split(10)[1].zero_(),
    "augmented": lambda w: w.__imul__(2.0),
    "out": lambda w: torch.add(torch.ones(V, M), 1.0, out=w),
    "freeze": lambda w: w.requires_grad_(False),
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("no_grad", [True, False])
def test_a_write_is_refused_and_says_what_to_do(write, no_grad):
    embedding = define(V, M)
    before = embedding.weight.clone()
    with (
        torch.set_grad_enabled(not no_grad),
        pytest.raises(
            RuntimeError,
            match=r"set_rows\(ids, rows\).*from_pretrained\(table.* requires_grad_\(False\)",
        ),
    ):
        write(embedding.weight)
    assert torch.equal(embedding.weight, before)


@our_embeddings
@pytest.mark.parametrize("value", [nn.Parameter(torch.ones(V, M)), torch.ones(V, M), None])
def test_it_cannot_be_assigned(make, value):
    embedding = make(V, M)
    with pytest.raises(AttributeError, match=rf"weight of {type(embedding).__name__} .*set_rows"):
        embedding.weight = value


@our_embeddings
def test_it_is_read_as_any_tensor(make):
    embedding = randomize(make(V, M))
    weight, plain = embedding.weight, embedding.whole_table()
    assert type(plain) is torch.Tensor and isinstance(weight, torch.Tensor)
    assert torch.equal(weight, plain) and torch.equal(plain, weight)
    hidden = torch.randn(3, M)
    for result in (F.linear(hidden, weight), hidden @ weight.T, weight + 1, weight.clone()):
        assert type(result) is torch.Tensor
    assert_close(F.linear(hidden, weight), F.linear(hidden, plain))
    assert (weight.shape, weight.dtype, weight.device) == (plain.shape, plain.dtype, plain.device)
    assert weight.detach().numpy().sum() == plain.detach().numpy().sum()
    assert "tensor(" in repr(weight) and len(weight.tolist()) == V
    for copied in (copy.deepcopy(weight.detach()), pickle.loads(pickle.dumps(weight.detach()))):
        assert torch.equal(copied, plain)
    assert torch.equal(torch.ones(V, M).copy_(weight.detach()), plain)
    assert torch.equal(nn.Embedding.from_pretrained(weight.detach()).weight, plain)
    # What was copied may be written into.
    copied = weight.detach().clone()
    copied[3] = 1.0
    nn.init.zeros_(copied)


@our_embeddings
def test_gradients_flow_through_it(make):
    embedding = randomize(make(V, M)).double()
    hidden = torch.randn(3, M, dtype=torch.float64)
    parameters = list(embedding.parameters())
    through = torch.autograd.grad(F.linear(hidden, embedding.weight).square().sum(), parameters)
    plain = torch.autograd.grad(
        F.linear(hidden, embedding.whole_table()).square().sum(), parameters
    )
    assert_close(through, plain)
    assert all(gradient.any() for gradient in through)
