"""What every backbone keeps."""

import copy
import pickle
from functools import partial

import pytest
import torch
from laws import assert_every_parameter_is_reached, assert_state_round_trip, randomize
from torch.testing import assert_close

from define import LSTM, Backbone, TransformerXL


def transformer(**options):
    sizes = {"num_heads": 2, "head_dim": 3, "inner_dim": 8, "memory_length": 100, "dropout": 0.0}
    return TransformerXL(6, 2, **sizes | options)


BACKBONES = {
    "lstm": partial(LSTM, 6, 7, 2),
    "lstm-narrow-end": partial(LSTM, 6, 7, 3, output_size=4),
    "lstm-one-layer": partial(LSTM, 6, 7, 1),
    "awd-lstm": partial(
        LSTM, 6, 7, 2, dropout=0.3, input_dropout=0.4, output_dropout=0.2, weight_dropout=0.5
    ),
    "transformer-xl": transformer,
    "transformer-xl-pre-norm": partial(transformer, pre_norm=True),
    "transformer-xl-dropout": partial(transformer, dropout=0.2, attention_dropout=0.2),
}
backbones = pytest.mark.parametrize("make", BACKBONES.values(), ids=BACKBONES)


def leaves(state):
    return [state] if isinstance(state, torch.Tensor) else [t for s in state for t in leaves(s)]


@backbones
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("time", [0, 1, 5])
def test_a_backbone_gives_a_vector_a_step_and_a_state(make, batch, time):
    backbone = make()
    x = torch.randn(batch, time, backbone.input_size)
    y, state = backbone(x)
    assert y.shape == (batch, time, backbone.output_size)
    y, _ = backbone(x, state)
    assert y.shape == (batch, time, backbone.output_size)


class Nested(Backbone):
    def segment(self, x, state):
        return x, [{"x": x}, (x, None)]


def test_a_state_of_any_structure_carries_no_gradient():
    _, [first, (second, nothing)] = Nested(6, 6)(torch.randn(2, 3, 6, requires_grad=True))
    assert nothing is None
    assert not first["x"].requires_grad and not second.requires_grad


@backbones
@pytest.mark.parametrize("cuts", [(3, 4), (1, 6), (2, 2, 3), (3, 0, 4)])
def test_segments_with_carried_state_are_one_whole(make, cuts):
    backbone = randomize(make()).double().eval()
    x = torch.randn(2, sum(cuts), backbone.input_size, dtype=torch.float64)
    whole, last = backbone(x)
    state, parts = None, []
    for segment in x.split(cuts, dim=1):
        y, state = backbone(segment, state)
        parts.append(y)
    assert_close(torch.cat(parts, 1), whole)
    assert_close(leaves(state), leaves(last))
    forgotten, _ = backbone(x[:, cuts[0] :])
    assert not torch.allclose(forgotten, whole[:, cuts[0] :])


@backbones
def test_outputs_have_no_gradient_to_the_future_nor_to_other_rows(make):
    backbone = randomize(make()).double().eval()
    x = torch.randn(2, 6, backbone.input_size, dtype=torch.float64, requires_grad=True)
    y, _ = backbone(x)
    for time in range(6):
        (grad,) = torch.autograd.grad(y[0, time].square().sum(), x, retain_graph=True)
        assert grad[0, : time + 1].any(-1).all()
        assert not grad[0, time + 1 :].any() and not grad[1].any()


@backbones
def test_a_state_carries_no_gradient(make):
    backbone = randomize(make())
    assert isinstance(backbone, Backbone)
    x = torch.randn(2, 3, backbone.input_size, requires_grad=True)
    state = None
    for _ in range(3):  # a loop that hands the state on as it is
        y, state = backbone(x, state)
        assert not any(t.requires_grad for t in leaves(state))
        y.sum().backward()


@backbones
def test_state_is_an_argument_and_a_result_alone(make):
    backbone = make().eval()
    x = torch.randn(2, 3, backbone.input_size)
    first, state = backbone(x)
    kept = [t.clone() for t in leaves(state)]
    backbone(x, state)
    again, _ = backbone(x)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(kept, leaves(state), strict=True))


@pytest.mark.usefixtures("unchecked")
@backbones
def test_a_state_that_does_not_fit_is_refused(make):
    backbone = make()
    x = torch.randn(2, 3, backbone.input_size)
    _, state = backbone(x)
    with pytest.raises(ValueError, match="state"):
        backbone(torch.cat([x, x]), state)  # another batch
    with pytest.raises(ValueError, match="state"):
        backbone(x, state[:-1])  # a layer missing
    narrow = state[..., :-1] if isinstance(state, torch.Tensor) else state[:-1] + ((x, x),)
    with pytest.raises(ValueError, match="state"):
        backbone(x, narrow)
    with pytest.raises(ValueError, match=str(backbone.input_size + 1)):
        backbone(torch.randn(2, 3, backbone.input_size + 1))
    with pytest.raises(ValueError, match=r"x \(3, \d+\) must be \(batch, time"):
        backbone(x[0])


@backbones
def test_every_parameter_of_a_backbone_is_trained(make):
    backbone = make()
    if isinstance(backbone, TransformerXL):
        randomize(backbone)
    y, state = backbone(torch.randn(4, 6, backbone.input_size))
    y, _ = backbone(torch.randn(4, 6, backbone.input_size), state)
    weights = torch.randn_like(y)  # a plain sum is constant after a LayerNorm
    assert_every_parameter_is_reached(y * weights, backbone)


@backbones
def test_a_backbone_copies_pickles_and_comes_back(make):
    backbone, other = assert_state_round_trip(make)
    x = torch.randn(2, 3, backbone.input_size)
    backbone(x)[0].sum().backward()  # also after use
    wanted, _ = backbone.eval()(x)
    for twin in (other.eval(), copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(twin(x)[0], wanted)
    assert repr(backbone).startswith(type(backbone).__name__)


@backbones
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_backbone_has_the_dtype_asked_for(make, dtype):
    backbone = make().to(dtype)
    y, state = backbone(torch.randn(2, 3, backbone.input_size, dtype=dtype))
    assert {t.dtype for t in [y, *leaves(state)]} == {dtype}
    assert y.isfinite().all()


@backbones
def test_a_backbone_can_be_planned_on_the_meta_device(make):
    with torch.device("meta"):
        planned = make()
    assert all(p.is_meta for p in planned.parameters())
    assert [p.shape for p in planned.parameters()] == [p.shape for p in make().parameters()]


@backbones
def test_a_backbone_can_be_drawn_anew(make):
    backbone = randomize(make(), std=50.0)
    backbone.reset_parameters()
    assert all(p.abs().max() < 2 for p in backbone.parameters())
