"""The cache against its definition, one word after the other."""

import math

import pytest
import torch

from define import LSTM, LanguageModel, Softmax
from define.data import Segments
from define.training import ContinuousCache, cached_nll, choose_cache, mean_nll

V = 7


@pytest.fixture
def model():
    torch.manual_seed(0)
    return LanguageModel(torch.nn.Embedding(V, 5), LSTM(5, 6, 1), Softmax(6, V)).double()


def text(columns, length, ids=None):
    ids = torch.randint(V, (50,)) if ids is None else ids
    return Segments(ids, columns, length, drop_last=False)


def reference(model, ids, size, theta, weight):
    """Negative log-likelihoods of all words of a text but the first."""
    model.eval()
    with torch.no_grad():
        hidden = model.hidden(ids[None, :-1])[0][0]
        p_model = model.head.log_prob(hidden).exp()
    nll = []
    for t in range(len(ids) - 1):
        mass = [0.0] * V
        for i in range(max(0, t - size), t):
            mass[ids[i + 1]] += math.exp(theta * float(hidden[t] @ hidden[i]))
        word = ids[t + 1]
        p = p_model[t, word].item()
        if t > 0:
            p = (1 - weight) * p + weight * mass[word] / sum(mass)
        nll.append(-math.log(p))
    return nll


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("size", [1, 6, 100])
@pytest.mark.parametrize("length", [4, 60])
def test_every_word_has_the_probability_of_the_definition(model, columns, size, length):
    ids = torch.randint(V, (50,))
    segments = text(columns, length, ids)
    thetas, weights = [0.0, 2.0], [0.0, 0.3, 0.9]
    found = cached_nll(model, segments, size, thetas, weights)
    places = -(-49 // columns)
    parts = [ids[start : start + places + 1] for start in range(0, 49, places)]
    for i, theta in enumerate(thetas):
        for j, weight in enumerate(weights):
            nll = [x for part in parts for x in reference(model, part, size, theta, weight)]
            assert len(nll) == 49
            assert found[i, j].item() == pytest.approx(sum(nll) / 49, rel=1e-9)
    assert found[0, 0].item() == pytest.approx(mean_nll(model, segments), rel=1e-9)


def test_many_queries_at_a_time_change_nothing(model):
    """More products of queries with the cache than are computed at a time."""
    ids = torch.randint(V, (2 * 1500 + 1,))
    many, few = (Segments(ids, 2, length, drop_last=False) for length in (1500, 100))
    found, expected = (cached_nll(model, part, 1000, [1.0], [0.2]) for part in (many, few))
    torch.testing.assert_close(found, expected)


def test_a_word_that_came_a_while_ago_is_remembered(model):
    ids = torch.randint(V - 1, (200,))
    ids[::2] = V - 1  # what the untrained model knows nothing of
    segments = Segments(ids, 1, 20)
    plain, cached = cached_nll(model, segments, 50, [0.3], [0.0, 0.5])[0]
    assert cached < plain


def test_the_best_of_a_grid_is_chosen(model):
    segments = text(1, 10)
    thetas, weights = [0.0, 0.5, 3.0], [0.01, 0.1, 0.4]
    best = choose_cache(model, segments, ContinuousCache(size=8), thetas, weights)
    losses = {
        (t, w): cached_nll(model, segments, 8, [t], [w]).item() for t in thetas for w in weights
    }
    assert (best.theta, best.weight) == min(losses, key=losses.__getitem__)
    assert best.size == 8


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_stays(model, mode):
    model.train(mode)
    cached_nll(model, text(1, 10), 5, [0.5], [0.1])
    assert model.training == model.backbone.training == mode


@pytest.mark.parametrize(
    ("change", "message"),
    [({"size": 0}, "size=0"), ({"theta": -1.0}, "theta=-1.0"), ({"weight": 1.0}, "weight=1.0")],
)
def test_a_value_out_of_its_range_is_named(change, message):
    with pytest.raises(ValueError, match=message):
        ContinuousCache(**change)
