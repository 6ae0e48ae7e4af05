"""The AWD-LSTM regularizers against their formulas written out."""

import copy
import pickle

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding, TiedSoftmax
from define.dropout import (
    LockedDropout,
    WeightDropLSTM,
    activation_regularization,
    drop_words,
    temporal_activation_regularization,
    word_dropout,
)

torch.set_num_threads(1)


@settings(deadline=None, max_examples=20)
@given(
    batch=st.lists(st.integers(1, 3), max_size=3),
    time=st.integers(1, 5),
    features=st.integers(1, 4),
    p=st.floats(0.0, 0.9),
)
def test_locked_dropout_shares_its_mask_over_time(batch, time, features, p):
    x = torch.ones(*batch, time, features, dtype=torch.float64, requires_grad=True)
    y = LockedDropout(p)(x)
    torch.testing.assert_close(y, y[..., :1, :].expand_as(y))
    kept = torch.full_like(y, 1 / (1 - p))
    torch.testing.assert_close(y, torch.where(y == 0, 0.0, kept))
    torch.testing.assert_close(torch.autograd.grad(y.sum(), x)[0], y)


def test_locked_dropout_draws_per_sequence_and_keeps_the_expectation():
    torch.manual_seed(0)
    y = LockedDropout(0.3)(torch.ones(1000, 2, 100))
    assert abs(y.mean() - 1) < 0.01
    assert not torch.equal(y[0], y[1])


@pytest.mark.parametrize("p", [0.0, 0.5])
def test_locked_dropout_is_the_identity(p):
    x = torch.randn(2, 3, 4)
    assert LockedDropout(p).eval()(x) is x
    assert LockedDropout(0.0)(x) is x


def test_word_dropout_drops_whole_rows():
    torch.manual_seed(0)
    rows = torch.randn(2000, 5, dtype=torch.float64, requires_grad=True)
    y = word_dropout(rows, 0.1)
    dropped = (y == 0).all(dim=1)
    assert abs(dropped.double().mean() - 0.1) < 0.02
    torch.testing.assert_close(y, torch.where(dropped[:, None], 0.0, rows / 0.9))
    (gradient,) = torch.autograd.grad(y.sum(), rows)
    torch.testing.assert_close(
        gradient, torch.where(dropped[:, None], 0.0, torch.ones_like(rows) / 0.9)
    )
    assert word_dropout(rows, 0.1, training=False) is rows
    assert word_dropout(rows, 0.0) is rows


EMBEDDINGS = {
    "standard": lambda: nn.Embedding(9, 6),
    "projected": lambda: ProjectedEmbedding(9, 6, map=4),
    "adaptive": lambda: AdaptiveEmbedding(9, 6, cutoffs=[3], div_value=2),
    "DeFINE": lambda: DeFINE(9, 6, map=4, expand_dim=8, depth=2, max_groups=2),
    "DeFINE on adaptive": lambda: DeFINE(
        9,
        6,
        map=AdaptiveEmbedding(9, 4, cutoffs=[3], div_value=2),
        expand_dim=8,
        depth=2,
        max_groups=2,
    ),
}


@pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_words_are_dropped_from_the_table_at_all_their_places(make):
    torch.manual_seed(0)
    embedding = make().double()
    map = getattr(embedding, "map", embedding)
    keys, exact = list(embedding.state_dict()), embedding.weight.detach().clone()
    drop_words(embedding, 0.4)
    ids = torch.arange(9).repeat(2, 3, 1).flatten(1)  # (2, 27)
    rows = []
    map.register_forward_hook(lambda module, args, y: rows.append(y.flatten(0, -2)))
    embedding.train()
    y = embedding(ids).view(6, 9, 6)
    torch.testing.assert_close(y, y[:1].expand_as(y))  # the same at every place
    [row] = rows
    plain = map.weight.detach()
    kept = (row.view(-1, 9, row.shape[-1]) != 0).any(-1)
    assert 0 < kept.sum() < kept.numel()
    expected = torch.where(kept[0, :, None], plain / 0.6, 0.0)
    torch.testing.assert_close(row.view(-1, 9, plain.shape[1])[0].detach(), expected)
    assert not torch.equal(embedding(ids).view(6, 9, 6), y)  # drawn anew
    # Nothing else knows of it.
    assert list(embedding.state_dict()) == keys
    assert torch.equal(embedding.weight, exact)
    assert torch.equal(embedding.eval()(ids).view(6, 9, 6)[0], exact)
    if hasattr(embedding, "to_embedding"):
        assert torch.equal(embedding.train().to_embedding()(ids[0, :9]), exact)


@pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)
def test_words_are_dropped_whatever_the_ids_are_called(make):
    embedding, ids = make(), torch.arange(9)
    drop_words(embedding, 0.4)
    torch.manual_seed(0)
    y = embedding(ids)
    torch.manual_seed(0)
    assert torch.equal(embedding(input=ids), y)
    assert not torch.equal(embedding.eval()(ids), y)


def test_a_tied_output_reads_the_whole_table():
    embedding = nn.Embedding(9, 6)
    head = TiedSoftmax(embedding)
    hidden, targets = torch.randn(4, 6), torch.arange(4)
    expected = head(hidden, targets)
    drop_words(embedding, 0.9)
    assert torch.equal(head.train()(hidden, targets), expected)


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_a_copy_drops_words_too_and_the_handle_ends_it(clone):
    embedding = EMBEDDINGS["DeFINE"]()
    handle = drop_words(embedding, 0.5)
    other, ids = clone(embedding), torch.arange(9)
    torch.manual_seed(0)
    y = embedding(ids)
    torch.manual_seed(0)
    assert torch.equal(other(ids), y)
    assert not torch.equal(y, embedding.weight)
    handle.remove()
    assert torch.equal(embedding(ids), embedding.weight)


def lstm_written_out(lstm, hidden_weight, x, state):
    """The LSTM's equations, one step after the other."""
    h, c = state[0][0], state[1][0]
    steps = []
    for x_t in x.unbind(1):
        gates = x_t @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ hidden_weight.T + lstm.bias_hh_l0
        i, f, g, o = gates.chunk(4, dim=-1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        h = o.sigmoid() * c.tanh()
        steps.append(h)
    return torch.stack(steps, dim=1), (h[None], c[None])


@pytest.mark.parametrize("given_state", [False, True])
def test_weight_drop_and_its_gradient_are_those_of_the_masked_matrix(given_state):
    torch.manual_seed(0)
    lstm = WeightDropLSTM(3, 5, weight_dropout=0.5).double()
    x = torch.randn(2, 6, 3, dtype=torch.float64)
    zeros = torch.zeros(1, 2, 5, dtype=torch.float64)
    state = (torch.randn_like(zeros), torch.randn_like(zeros)) if given_state else None
    torch.manual_seed(1)
    y, (h, c) = lstm(x, state)
    torch.manual_seed(1)
    mask = F.dropout(torch.ones_like(lstm.weight_hh_l0), 0.5)
    assert 0 < (mask == 0).sum() < mask.numel()
    written_out = lstm_written_out(lstm, lstm.weight_hh_l0 * mask, x, state or (zeros, zeros))
    torch.testing.assert_close((y, (h, c)), written_out)
    gradients = torch.autograd.grad(y.square().sum(), list(lstm.parameters()))
    expected = torch.autograd.grad(written_out[0].square().sum(), list(lstm.parameters()))
    torch.testing.assert_close(gradients, expected)
    assert ((gradients[1] == 0) == (mask == 0)).all()


@pytest.mark.parametrize(("weight_dropout", "training"), [(0.0, True), (0.5, False)])
def test_nothing_dropped_is_exactly_an_lstm(weight_dropout, training):
    lstm = WeightDropLSTM(3, 5, weight_dropout).train(training)
    plain = nn.LSTM(3, 5, batch_first=True)
    plain.load_state_dict(lstm.state_dict())
    assert list(lstm.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 6, 3)
    torch.testing.assert_close(lstm(x), plain(x), rtol=0, atol=0)


def test_a_mask_is_drawn_per_call_and_the_parameter_stays():
    lstm, x = WeightDropLSTM(3, 5, 0.5), torch.randn(2, 6, 3)
    before = copy.deepcopy(lstm.state_dict())
    assert not torch.equal(lstm(x)[0], lstm(x)[0])
    torch.testing.assert_close(lstm.state_dict(), before, rtol=0, atol=0)
    assert len(list(lstm.parameters())) == 4


@pytest.mark.parametrize("clone", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_after_a_forward_pass(clone):
    lstm, x = WeightDropLSTM(3, 5, 0.5), torch.randn(2, 6, 3)
    lstm(x)[0].sum().backward()
    other = clone(lstm)
    torch.manual_seed(0)
    y = lstm(x)
    torch.manual_seed(0)
    torch.testing.assert_close(other(x), y, rtol=0, atol=0)
    with torch.no_grad():
        other.weight_hh_l0.zero_()
    assert lstm.weight_hh_l0.count_nonzero() > 0


@pytest.mark.parametrize("weight_dropout", [0.0, 0.5])
def test_autocast(weight_dropout):
    lstm, x = WeightDropLSTM(3, 5, weight_dropout), torch.randn(2, 6, 3)
    torch.manual_seed(0)
    expected = lstm(x)[0]
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        y, (h, c) = lstm(x.bfloat16())
        lstm(y[..., :3], (h.bfloat16(), c.bfloat16()))[0].sum().backward()
    assert (y - expected).abs().max() < 0.02
    assert lstm.weight_hh_l0.grad.isfinite().all()


def test_the_gradient_numerically():
    torch.manual_seed(0)
    lstm = WeightDropLSTM(2, 3, 0.5).double()

    def output(x):
        torch.manual_seed(1)
        return lstm(x)[0]

    x = torch.randn(2, 3, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(output, (x,))


def test_regularizers():
    torch.manual_seed(0)
    h = torch.randn(2, 5, 3, dtype=torch.float64)
    squares = [v**2 for v in h.flatten().tolist()]
    steps = [
        (h[b, t, j] - h[b, t - 1, j]).item() ** 2
        for b in range(2)
        for t in range(1, 5)
        for j in range(3)
    ]
    ar = activation_regularization(h, 2.0).item()
    tar = temporal_activation_regularization(h, 1.5).item()
    assert ar == pytest.approx(2.0 * sum(squares) / len(squares))
    assert tar == pytest.approx(1.5 * sum(steps) / len(steps))
    assert temporal_activation_regularization(h[:, :1], 1.0) == 0


@pytest.mark.parametrize("p", [-0.1, 1.0, float("nan")])
def test_bad_probabilities(p):
    with pytest.raises(ValueError, match=f"^p={p}"):
        LockedDropout(p)
    with pytest.raises(ValueError, match=f"^p={p}"):
        word_dropout(torch.ones(2, 3), p)
    with pytest.raises(ValueError, match=f"^p={p}"):
        drop_words(nn.Embedding(2, 3), p)
    with pytest.raises(ValueError, match=f"^weight_dropout={p}"):
        WeightDropLSTM(3, 4, weight_dropout=p)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_weights_lie_side_by_side_and_gradients_agree(monkeypatch):
    monkeypatch.setattr("define.dropout.F.dropout", lambda weight, p: weight * 0.5)
    lstm, x = WeightDropLSTM(3, 5, 0.5), torch.randn(2, 6, 3)
    on_gpu = copy.deepcopy(lstm).cuda()
    y, _ = lstm(x)
    z, _ = on_gpu(x.cuda())  # a warning of cuDNN would be an error
    torch.testing.assert_close(z.cpu(), y, atol=1e-3, rtol=1e-3)  # TF32
    y.square().sum().backward()
    z.square().sum().backward()
    for one, other in zip(on_gpu.parameters(), lstm.parameters(), strict=True):
        torch.testing.assert_close(one.grad.cpu(), other.grad, atol=1e-2, rtol=1e-2)
