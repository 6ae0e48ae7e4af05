"""Adaptive softmax against `torch.nn.AdaptiveLogSoftmaxWithLoss` and its own definition."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import AdaptiveEmbedding, AdaptiveSoftmax, TiedSoftmax

V, CUTOFFS, WIDTH = 50, [8, 20, 35], 16


def randomize(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def of_a_table(head_bias):
    """Tied to one full table. Torch has projections even so: they are set to the identity."""
    table = nn.Embedding(V, WIDTH, dtype=torch.float64)
    head = AdaptiveSoftmax(
        table, cutoffs=CUTOFFS, bias=head_bias, cluster_bias=head_bias, dtype=torch.float64
    )
    matrices = [torch.eye(WIDTH, dtype=torch.float64)] * 3
    return table, head, lambda: table.weight.split(head.sizes), lambda: matrices, 1.0


def of_bands(head_bias, tie_projections=True):
    """Tied to an adaptive embedding: bands and projections."""
    map = AdaptiveEmbedding(V, WIDTH, cutoffs=CUTOFFS, div_value=2, dtype=torch.float64)
    head = AdaptiveSoftmax(
        map,
        bias=head_bias,
        cluster_bias=head_bias,
        tie_projections=tie_projections,
        dtype=torch.float64,
    )
    projections = map.projections if tie_projections else head.projections
    return map, head, lambda: list(map.tables), lambda: [p.mT for p in projections.values()], 2.0


@pytest.mark.parametrize("head_bias", [True, False])
@pytest.mark.parametrize(
    "make",
    [of_a_table, of_bands, lambda bias: of_bands(bias, tie_projections=False)],
    ids=["table", "bands", "untied"],
)
def test_it_is_torchs_adaptive_softmax_with_the_same_weights(make, head_bias):
    embedding, head, tables, projections, div_value = make(head_bias)
    randomize(embedding), randomize(head)
    reference = nn.AdaptiveLogSoftmaxWithLoss(
        WIDTH, V, CUTOFFS, div_value=div_value, head_bias=head_bias, dtype=torch.float64
    )
    with torch.no_grad():
        first, *tails = tables()
        reference.head.weight.copy_(torch.cat([first, head.cluster_weight]))
        if head_bias:
            head.bias[CUTOFFS[0] :] = 0  # torch has none in its tail bands
            reference.head.bias.copy_(torch.cat([head.bias[: CUTOFFS[0]], head.cluster_bias]))
        for band, table, projection in zip(reference.tail, tails, projections(), strict=True):
            band[0].weight.copy_(projection)
            band[1].weight.copy_(table)
    hidden = torch.randn(60, WIDTH, dtype=torch.float64, requires_grad=True)
    targets = torch.randint(V, (60,))

    assert_close(head.log_prob(hidden), reference.log_prob(hidden))
    assert torch.equal(head.predict(hidden), reference.predict(hidden))
    nll, expected = head(hidden, targets), reference(hidden, targets)
    assert_close(nll, -expected.output)
    assert_close(nll.mean(), expected.loss)
    ours = torch.autograd.grad(nll.mean(), [hidden, head.cluster_weight])
    theirs = torch.autograd.grad(expected.loss, [hidden, reference.head.weight])
    assert_close(ours[0], theirs[0])
    assert_close(ours[1], theirs[1][CUTOFFS[0] :])


def test_a_band_is_likely_where_its_cluster_is():
    """p(w) = p(cluster) p(w in band): the sum over a band is its cluster's probability."""
    map, head, *_ = of_bands(True)
    randomize(map), randomize(head)
    hidden = torch.randn(5, WIDTH, dtype=torch.float64)
    logits = torch.cat(
        [hidden @ map.tables[0].mT + head.bias[:8], hidden @ head.cluster_weight.mT], -1
    )
    logits[:, 8:] += head.cluster_bias
    clusters = logits.softmax(-1)[:, 8:]
    bands = head.log_prob(hidden).exp().split(head.sizes, dim=-1)[1:]
    assert_close(torch.stack([band.sum(-1) for band in bands], -1), clusters)


def test_one_word_bands_are_an_ordinary_softmax():
    """Then each cluster is its word."""
    table = nn.Embedding(4, 8, dtype=torch.float64)
    head = AdaptiveSoftmax(table, cutoffs=[2, 3], dtype=torch.float64)
    with torch.no_grad():
        head.cluster_weight.copy_(table.weight[2:])
    hidden = torch.randn(9, 8, dtype=torch.float64)
    full = TiedSoftmax(table, bias=False).double()
    assert_close(head.log_prob(hidden), full.log_prob(hidden))


def test_topk_searches_only_bands_that_can_hold_a_word_of_it(allocations):
    table = nn.Embedding(3000, 4)
    head = AdaptiveSoftmax(table, cutoffs=[10, 500], cluster_bias=True)
    hidden, searched = torch.randn(100, 4), []
    for bias in ([50.0, -50.0], [-50.0, 50.0]):
        with torch.no_grad():
            head.cluster_bias.copy_(torch.tensor(bias))
        with allocations() as seen:
            head.topk(hidden, 3)
        searched.append(seen.largest)
    assert searched[0] < 100 * 500 < searched[1]  # logits of the band of 490 words, of 2,500


@pytest.mark.parametrize("cutoffs", [[], [0, 5], [5, 5], [20, 5], [V], [5, V + 1]])
def test_cutoffs_that_do_not_cut_are_refused(cutoffs):
    with pytest.raises(ValueError, match=f"cutoffs=.* must increase between 0 and .*={V}"):
        AdaptiveSoftmax(nn.Embedding(V, WIDTH), cutoffs=cutoffs)


def test_one_table_needs_cutoffs():
    with pytest.raises(ValueError, match="cutoffs=None must be given"):
        AdaptiveSoftmax(nn.Embedding(V, WIDTH))


def test_other_cutoffs_than_those_of_the_map_are_refused_with_both():
    map = AdaptiveEmbedding(V, WIDTH, cutoffs=CUTOFFS, div_value=2)
    with pytest.raises(ValueError, match=r"cutoffs=\[8, 20\] must be .* \(8, 20, 35\)"):
        AdaptiveSoftmax(map, cutoffs=[8, 20])
    assert AdaptiveSoftmax(map, cutoffs=CUTOFFS).cutoffs == (8, 20, 35)


@pytest.mark.parametrize("k", [1, 9, 20, V])
def test_the_likeliest_words_are_different_ones_where_probabilities_underflow(k):
    """Clusters of probability 0: a bias of minus infinity, as a mask of words has it."""
    head = AdaptiveSoftmax(nn.Embedding(V, WIDTH), cutoffs=CUTOFFS, cluster_bias=True)
    nn.init.constant_(head.cluster_bias, -torch.inf)
    hidden = torch.randn(6, WIDTH)
    values, ids = head.topk(hidden, k)
    assert all(len(set(row)) == k for row in ids.tolist())
    assert torch.equal(values, head.log_prob(hidden).gather(-1, ids))
    assert_close(values, head.log_prob(hidden).topk(k).values)
