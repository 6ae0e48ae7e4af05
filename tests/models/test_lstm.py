"""The LSTM backbone against `torch.nn.LSTM`, and its dropouts."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import LSTM, AdaptiveEmbedding, TransformerXL


def test_equal_widths_are_torchs_lstm():
    ours = LSTM(5, 7, 3, dtype=torch.float64)
    reference = nn.LSTM(5, 7, 3, batch_first=True, dtype=torch.float64)
    for layer, lstm in enumerate(ours.layers):
        for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
            getattr(reference, f"{name}_l{layer}").data = getattr(lstm, f"{name}_l0").data
    x = torch.randn(2, 6, 5, dtype=torch.float64)
    state = tuple(tuple(torch.randn(1, 2, 7, dtype=torch.float64) for _ in "hc") for _ in range(3))
    stacked = tuple(torch.cat(part) for part in zip(*state, strict=True))
    for given, theirs in ((None, None), (state, stacked)):
        y, after = ours(x, given)
        expected, expected_after = reference(x, theirs)
        assert_close(y, expected)
        assert_close(tuple(torch.cat(part) for part in zip(*after, strict=True)), expected_after)


def test_the_last_layer_has_the_output_width():
    lstm = LSTM(5, 7, 3, output_size=4)
    assert [layer.hidden_size for layer in lstm.layers] == [7, 7, 4]
    assert [layer.input_size for layer in lstm.layers] == [5, 7, 7]
    assert (lstm.input_size, lstm.output_size) == (5, 4)
    assert LSTM(5, 7, 1, output_size=4).layers[0].hidden_size == 4


@pytest.mark.parametrize("name", ["input_dropout", "dropout", "output_dropout", "weight_dropout"])
def test_each_dropout_acts_in_training_alone(name):
    lstm = LSTM(5, 7, 2, **{name: 0.5})
    x = torch.randn(2, 6, 5)
    exact, _ = lstm.eval()(x)
    assert torch.equal(exact, lstm(x)[0])
    lstm.train()
    y, _ = lstm(x)
    assert not torch.equal(y, exact) and not torch.equal(y, lstm(x)[0])
    if name == "output_dropout":  # locked: a feature is dropped at all times of a sequence
        dropped = y == 0
        assert dropped.any() and torch.equal(dropped, dropped[:, :1].expand_as(dropped))
        assert_close(y[~dropped], 2 * exact[~dropped])


def test_one_layer_has_no_dropout_between_layers():
    lstm = LSTM(5, 7, 1, dropout=0.99)
    x = torch.randn(2, 6, 5)
    assert torch.equal(lstm.train()(x)[0], lstm.eval()(x)[0])


@pytest.mark.parametrize("sizes", [(0, 7, 2), (5, 0, 2), (5, 7, 0)])
def test_sizes_below_one_are_refused_with_their_values(sizes):
    with pytest.raises(
        ValueError, match="input_size={}, hidden_size={} and num_layers={}".format(*sizes)
    ):
        LSTM(*sizes)
    with pytest.raises(ValueError, match="output_size=0"):
        LSTM(5, 7, 2, output_size=0)


@pytest.mark.usefixtures("unchecked")
def test_a_state_of_other_shapes_is_refused_with_both():
    lstm = LSTM(5, 7, 2, output_size=4)
    _, state = lstm(torch.randn(2, 3, 5))
    with pytest.raises(ValueError, match=r"\(1, 2, 4\).* must have shapes .*\(1, 3, 4\)"):
        lstm(torch.randn(3, 3, 5), state)
    with pytest.raises(ValueError, match="must have shapes"):
        lstm(torch.randn(2, 3, 5), state[::-1])
    with pytest.raises(ValueError, match=r"x \(3, 5\) must be \(batch, time"):
        lstm(torch.randn(3, 5))


@pytest.mark.filterwarnings("ignore")  # of torch about its own export
@pytest.mark.parametrize("onednn", [True, False])
def test_it_is_exported_for_any_batch(onednn, monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", onednn)
    lstm = LSTM(3, 4, 2).eval()
    state = [tuple(torch.randn(2, 1, 2, 4)) for _ in lstm.layers]
    batch = torch.export.Dim("batch")
    sizes = ({0: batch}, ({1: batch},) * 2, ({1: batch},) * 2)
    model = _States(lstm)
    exported = torch.export.export(
        model, (torch.randn(2, 1, 3), *state), dynamic_shapes=sizes
    ).run_decompositions()
    x, state = torch.randn(5, 1, 3), [tuple(torch.randn(2, 1, 5, 4)) for _ in lstm.layers]
    torch.testing.assert_close(exported.module()(x, *state), model(x, *state))


class _States(torch.nn.Module):
    def __init__(self, lstm):
        super().__init__()
        self.lstm = lstm

    def forward(self, x, first, second):
        return self.lstm(x, (first, second))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: LSTM(16, "a", 2), "hidden_size='a'"),
        (lambda: LSTM(16, 8, 1.5), "num_layers=1.5"),
        (lambda: TransformerXL(16, "2"), "depth='2'"),
        (lambda: AdaptiveEmbedding(100, 16, cutoffs="10"), "cutoffs='10' must be a sequence of"),
        (
            lambda: AdaptiveEmbedding(100, 16, cutoffs=[1.5]),
            r"cutoffs=\[1.5\] must be",
        ),
    ],
)
def test_what_is_no_integer_is_named(make, words, unchecked):
    with pytest.raises(TypeError, match=words):
        make()
