"""An LSTM with products in bfloat16 against torch's own."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import LSTM
from define.dropout import WeightDropLSTM
from define.mixed_lstm import mixed_lstm, mixed_lstm_pays


@pytest.fixture
def pays(monkeypatch):
    """Takes the layer at any size on any processor."""
    monkeypatch.setattr("define.dropout.mixed_lstm_pays", lambda *sizes: True)


def arguments(time=5, batch=3, inputs=4, hidden=6, dtype=torch.float64):
    torch.manual_seed(0)
    shapes = (time, batch, inputs), (batch, hidden), (batch, hidden)
    weights = (4 * hidden, inputs), (4 * hidden, hidden), (4 * hidden,)
    return [torch.randn(*s, dtype=dtype, requires_grad=True) for s in (*shapes, *weights)]


def torchs(x, h, c, weight_ih, weight_hh, bias):
    zero = torch.zeros_like(bias)
    weights = [weight_ih, weight_hh, bias, zero]
    y, _, c = torch.lstm(x, (h[None], c[None]), weights, True, 1, 0.0, True, False, False)
    return y, c[0]


def test_its_values_and_derivatives_are_those_of_torch():
    given = arguments()
    outputs = mixed_lstm(*given, torch.float64)
    assert_close(outputs, torchs(*given))
    assert torch.autograd.gradcheck(lambda *g: mixed_lstm(*g, torch.float64), given)
    y, _ = mixed_lstm(*given, torch.float64)  # of one output alone
    assert_close(
        torch.autograd.grad(y.sum(), given), torch.autograd.grad(torchs(*given)[0].sum(), given)
    )


def test_errors_in_bfloat16_are_smaller_than_with_all_in_bfloat16():
    given = arguments(40, 8, 64, 64, torch.float32)
    with torch.no_grad():
        for weight in given[3:]:
            weight.mul_(0.1)

    def found(lstm, *options):
        outputs = lstm(*given, *options)
        loss = sum(output.float().square().mean() for output in outputs)
        return [*outputs, *torch.autograd.grad(loss, given)]

    def low(*arguments):
        i_h = [t.bfloat16() for t in arguments]
        x, h, c, weight_ih, weight_hh, bias = i_h
        steps = []
        for x_t in x:
            i, f, g, o = (x_t @ weight_ih.T + h @ weight_hh.T + bias).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            steps.append(h)
        return torch.stack(steps), c

    for exact, mixed, all_low in zip(found(torchs), found(mixed_lstm), found(low), strict=True):
        assert mixed.dtype == torch.float32
        error, larger = ((t.float() - exact).norm() for t in (mixed, all_low))
        assert 0 < error < larger and error < 0.02 * exact.norm()


@pytest.mark.parametrize("low", [True, False])
def test_under_autocast_a_layer_is_nearly_the_same(pays, low):
    lstm, x = WeightDropLSTM(5, 7), torch.randn(3, 6, 5)
    exact, state = lstm(x)
    with torch.autocast("cpu", torch.bfloat16):
        y, after = lstm(x.bfloat16() if low else x)
        assert 0 < (y - exact).abs().max() < 0.02
        first, between = lstm(x[:, :4])
        rest, last = lstm(x[:, 4:], tuple(t.bfloat16() if low else t for t in between))
    assert_close(torch.cat([first, rest], 1), y, atol=0.02, rtol=0)
    for one, other in zip((*after, *last), (*state, *state), strict=True):
        assert one.dtype == torch.float32
        assert_close(one, other, atol=0.02, rtol=0)


def test_weights_are_dropped_in_training_alone(pays):
    lstm, x = WeightDropLSTM(5, 60, weight_dropout=0.3), torch.randn(3, 6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = lstm(x)
        assert not torch.equal(y, lstm(x)[0])
        y.sum().backward()
        assert torch.equal(lstm.eval()(x)[0], lstm(x)[0])
    dropped = lstm.weight_hh_l0.grad == 0
    assert 0.28 < dropped.float().mean() < 0.32
    # The kept ones stand for the dropped: the mean of a product stays.
    lstm = WeightDropLSTM(1, 1000, weight_dropout=0.3)
    ones, zeros = torch.ones(1, 1, 1000), torch.zeros(1, 1, 1)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for parameter in lstm.parameters():
            parameter.zero_()
        lstm.weight_hh_l0.fill_(0.001)
        y, _ = lstm(zeros, (ones, ones))
        exact, _ = lstm.eval()(zeros, (ones, ones))
    assert_close(y.mean(), exact.mean(), atol=0.005, rtol=0)


def test_no_gradient_flows_between_segments(pays):
    lstm, x = LSTM(5, 7, 2, output_size=4), torch.randn(3, 6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        _, state = lstm(x)
        y, _ = lstm(torch.randn(3, 6, 5), state)
    y.sum().backward()
    assert x.grad is None


def test_second_derivatives_are_refused(pays):
    lstm, x = WeightDropLSTM(5, 7), torch.randn(3, 6, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y, _ = lstm(x)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(y.sum(), x, create_graph=True)


def test_shapes_that_do_not_fit_are_refused(pays, unchecked):
    lstm = WeightDropLSTM(5, 7)
    with torch.autocast("cpu", torch.bfloat16), pytest.raises(RuntimeError, match="5"):
        lstm(torch.randn(3, 6, 4))


def test_it_is_for_large_layers_that_are_not_traced(monkeypatch):
    monkeypatch.setattr("define.mixed_lstm.multiplies_bfloat16", lambda: True)
    assert mixed_lstm_pays(20, 400, 1150)
    assert not mixed_lstm_pays(20, 200, 200)
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: True)
    assert not mixed_lstm_pays(20, 400, 1150)
    monkeypatch.undo()
    monkeypatch.setattr("define.mixed_lstm.multiplies_bfloat16", lambda: False)
    assert not mixed_lstm_pays(20, 400, 1150)


def test_other_types_stay_with_torch(pays):
    lstm, x = WeightDropLSTM(5, 7).double(), torch.randn(3, 6, 5, dtype=torch.float64)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(lstm(x)[0], nn.LSTM.forward(lstm, x)[0].to(torch.float64))
