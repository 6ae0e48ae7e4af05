import math

import pytest
import torch
from tiny_runs import COUNTS, WIDTH, V, batches, language_model
from torch import nn

from define.measures import frequency_bands, perplexity_of, token_nll


def test_bands_by_hand():
    counts = torch.tensor([1, 9, 5, 5])  # ranks: 1, then 2 and 3 by id, then 0
    targets = torch.tensor([1, 1, 2, 0, 3])
    nll = torch.tensor([1.0, 3.0, 2.0, 7.0, 0.5])
    first, second, last = frequency_bands(targets, nll, counts, (1, 2, 50))
    assert (first.first, first.last, first.types, first.tokens, first.nll) == (1, 1, 1, 2, 4.0)
    assert (second.first, second.last, second.nll) == (2, 2, 2.0)
    assert (last.first, last.last, last.types, last.tokens, last.nll) == (3, 4, 2, 2, 7.5)
    assert first.perplexity == pytest.approx(math.exp(2))


def test_bands_add_up_to_the_whole():
    counts = torch.randint(0, 1000, (5000,))
    targets, nll = torch.randint(0, 5000, (20_000,)), torch.rand(20_000) * 9
    bands = frequency_bands(targets, nll, counts)
    assert sum(band.tokens for band in bands) == 20_000
    assert sum(band.nll for band in bands) == pytest.approx(nll.double().sum().item(), rel=1e-14)
    assert sum(band.types for band in bands) == len(targets.unique())
    assert [b.first for b in bands[1:]] == [b.last + 1 for b in bands[:-1]]
    assert bands[-1].last == 5000


def test_a_band_without_tokens_has_no_perplexity():
    (band,) = frequency_bands(torch.tensor([], dtype=torch.int64), torch.tensor([]), torch.ones(3))
    assert band.tokens == 0 and math.isnan(band.perplexity)


def test_a_loss_beyond_the_largest_float_is_infinite():
    counts, targets = torch.ones(3), torch.tensor([0, 1])
    (band,) = frequency_bands(targets, torch.tensor([1e4, 1e5]), counts)
    assert band.perplexity == math.inf == perplexity_of(800.0)
    assert perplexity_of(1.5) == math.exp(1.5) and math.isnan(perplexity_of(math.nan))


def test_losses_of_a_model_leave_padding_out():
    model = language_model(nn.Embedding(V, WIDTH)).train()
    first, second = [(x, y.clone()) for x, y in batches()][:2]
    second[1][0, 3] = -100
    targets, nll = token_nll(model, [first, second])
    assert model.training and len(targets) == len(nll) == 2 * 80 - 1
    model.eval()
    with torch.no_grad():
        expected, state = model(*first)
        torch.testing.assert_close(nll[:80], expected.flatten())
        expected, _ = model(*second, state)  # goes on from the first
    torch.testing.assert_close(nll[80:].sum(), expected.sum())
    bands = frequency_bands(targets, nll, COUNTS)
    total = sum(band.nll for band in bands)
    assert total == pytest.approx(nll.double().sum().item(), rel=1e-12)


@pytest.mark.parametrize(
    ("targets", "edges", "message"),
    [([0, 5], (2,), "from 0 to 5"), ([0], (2, 2), "edges"), ([0], (0, 2), "edges")],
)
def test_what_is_wrong_is_named(targets, edges, message):
    targets = torch.tensor(targets)
    with pytest.raises(ValueError, match=message):
        frequency_bands(targets, torch.ones(len(targets)), torch.ones(5), edges)


def test_shapes_must_fit():
    with pytest.raises(ValueError, match=r"\(2,\)"):
        frequency_bands(torch.tensor([0, 1]), torch.ones(3), torch.ones(5))
