"""The chooser of cutoffs against every choice there is."""

from itertools import combinations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from define import AdaptiveEmbedding, AdaptiveSoftmax, AdaptiveSoftmaxCost, choose_cutoffs
from define.softmax import cutoffs as module


def written_out(cost: AdaptiveSoftmaxCost, counts: list[float], cutoffs: tuple[int, ...]) -> float:
    """The formula of the documentation, one band at a time."""
    ends = [0, *cutoffs, len(counts)]
    total = 0.0
    for band in range(len(ends) - 1):
        size, width = ends[band + 1] - ends[band], int(cost.width / cost.div_value**band)
        rows, used = cost.tokens, 1.0
        if band == 0:
            size += len(cutoffs)
        else:
            share = sum(counts[ends[band] : ends[band + 1]]) / sum(counts)
            rows, used = cost.tokens * share, 1 - (1 - min(share, 1.0)) ** cost.tokens
            if cost.in_features is not None and width != cost.in_features:
                total += 3 * rows * cost.in_features * width
        total += rows * size * (3 * width + cost.per_logit)
        total += used * (cost.per_weight * size * width + cost.per_call)
    return total


costs = st.builds(
    AdaptiveSoftmaxCost,
    width=st.integers(8, 64),
    div_value=st.sampled_from([1.0, 1.5, 2.0]),
    in_features=st.none() | st.integers(1, 64),
    tokens=st.integers(1, 500),
    per_logit=st.floats(0, 300),
    per_weight=st.floats(0, 300),
    per_call=st.floats(0, 1e6),
)
frequencies = st.lists(st.integers(0, 1000), min_size=5, max_size=10).filter(any)


@given(costs, frequencies, st.integers(2, 4), st.booleans())
def test_choice_is_the_best_of_all(cost, counts, bands, ordered):
    counts = sorted(counts, reverse=True) if ordered else counts
    every = [
        cutoffs
        for clusters in range(1, bands)
        for cutoffs in combinations(range(1, len(counts)), clusters)
    ]
    tensor = torch.tensor(counts)
    for cutoffs in every[:: max(1, len(every) // 10)]:
        assert cost(tensor, cutoffs) == pytest.approx(written_out(cost, counts, cutoffs))
    chosen = choose_cutoffs(tensor, cost, bands)
    assert chosen in every
    least = min(written_out(cost, counts, cutoffs) for cutoffs in every)
    assert written_out(cost, counts, chosen) == pytest.approx(least)


@given(costs, frequencies)
def test_more_bands_never_cost_more(cost, counts):
    counts = torch.tensor(counts)
    found = [cost(counts, choose_cutoffs(counts, cost, bands)) for bands in range(2, 5)]
    assert found == sorted(found, reverse=True)


@given(costs, st.integers(2, 4))
def test_only_proportions_matter(cost, bands):
    counts = 1 / torch.arange(1.0, 21, dtype=torch.float64)
    assert choose_cutoffs(counts, cost, bands) == choose_cutoffs(1000 * counts, cost, bands)


def test_uniform_frequencies():
    """Without other costs: s = c + 1 for all rows, (V - c) (V - c) / V more for the rest."""
    words = 200
    cost = AdaptiveSoftmaxCost(8, per_logit=0.0, per_weight=0.0, per_call=0.0)
    (cutoff,) = choose_cutoffs(torch.ones(words), cost, 2)
    assert cutoff == min(range(1, words), key=lambda c: c + 1 + (words - c) ** 2 / words)
    assert cutoff == words // 2


def test_costs_of_a_call_and_of_rare_words():
    zipf = 1 / torch.arange(1.0, 1001)
    many = choose_cutoffs(zipf, AdaptiveSoftmaxCost(64, per_call=0.0), 5)
    few = choose_cutoffs(zipf, AdaptiveSoftmaxCost(64, per_call=1e12), 5)
    assert len(many) == 4 and len(few) == 1


def test_refined_grid_is_as_good_as_all_places(monkeypatch):
    zipf = 1 / torch.arange(1.0, 601) ** 1.1
    for tokens in (50, 2000):
        cost = AdaptiveSoftmaxCost(64, tokens=tokens, per_call=1e5)
        monkeypatch.setattr(module, "_CANDIDATES", 32)
        coarse = choose_cutoffs(zipf, cost, 4)
        monkeypatch.setattr(module, "_CANDIDATES", 600)
        assert cost(zipf, coarse) == pytest.approx(cost(zipf, choose_cutoffs(zipf, cost, 4)))


def test_large_vocabulary_beats_the_usual_cutoffs():
    zipf = 1 / torch.arange(1.0, 267_736)
    cost = AdaptiveSoftmaxCost(128, tokens=9000)
    chosen = choose_cutoffs(zipf, cost)
    assert len(chosen) == 3 and list(chosen) == sorted(chosen)
    assert cost(zipf, chosen) < cost(zipf, (20_000, 40_000, 200_000))


def test_a_softmax_takes_them():
    zipf = 1 / torch.arange(1.0, 51)
    chosen = choose_cutoffs(zipf, AdaptiveSoftmaxCost(8, div_value=2, per_call=0.0), 3)
    head = AdaptiveSoftmax(AdaptiveEmbedding(50, 8, cutoffs=chosen, div_value=2))
    assert head.cutoffs == chosen


@pytest.mark.parametrize(
    ("counts", "bands", "message"),
    [
        (torch.ones(4), 1, "bands=1"),
        (torch.ones(4), 5, "bands=5 .* 4 words"),
        (torch.ones(40), 6, "bands=6 .* no width"),
        (torch.zeros(4), 2, "not all zero"),
        (torch.tensor([1.0, -1.0]), 2, "not negative"),
        (torch.tensor([1.0, torch.nan]), 2, "finite"),
        (torch.ones(1), 2, r"\(1,\)"),
    ],
)
def test_bad_choices(counts, bands, message):
    with pytest.raises(ValueError, match=message):
        choose_cutoffs(counts, AdaptiveSoftmaxCost(8, div_value=2), bands)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": 0}, "width=0"),
        ({"tokens": 0}, "tokens=0"),
        ({"in_features": -1}, "in_features=-1"),
        ({"div_value": 0.5}, "div_value=0.5"),
        ({"per_call": -1.0}, "per_call=-1.0"),
    ],
)
def test_bad_costs(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveSoftmaxCost(**({"width": 8} | options))


def test_bad_cutoffs_are_named():
    with pytest.raises(ValueError, match=r"cutoffs=\(3, 2\)"):
        AdaptiveSoftmaxCost(8)(torch.ones(5), (3, 2))
