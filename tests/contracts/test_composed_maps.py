"""Adaptive softmax on embeddings made of others: the rows that look-ups give, padding too."""

import pytest
import torch
from laws import randomize
from torch import nn
from torch.testing import assert_close

from define import AdaptiveEmbedding, AdaptiveSoftmax, BandedEmbedding, DeFINE, ProjectedEmbedding

V, M, N = 20, 12, 4
CUTOFFS, PADDING = [6, 13], 8
LIKE = {"dtype": torch.float64}


def unit(size, map=N, padding_idx=None):
    return DeFINE(size, M, padding_idx, map=map, expand_dim=16, depth=2, max_groups=2, **LIKE)


def projected(size, padding_idx=None, map=N):
    return ProjectedEmbedding(size, M, padding_idx, map=map, **LIKE)


def adaptive(size, width=M):
    return AdaptiveEmbedding(size, width, cutoffs=CUTOFFS, div_value=2, **LIKE)


def banded(*parts, padding_idx=None):
    return BandedEmbedding(V, M, padding_idx, parts=parts)


def in_two(padding_idx=None):
    return banded(
        projected(6, padding_idx=2), projected(14, padding_idx=5), padding_idx=padding_idx
    )


WHOLE = {
    "one table": lambda: banded(nn.Embedding(V, M, **LIKE), padding_idx=PADDING),
    "one projected": lambda: banded(projected(V, padding_idx=PADDING)),
    "one unit": lambda: banded(unit(V), padding_idx=PADDING),
    "one unit of bands": lambda: banded(unit(V, adaptive(V, 8)), padding_idx=PADDING),
    "one of bands": lambda: banded(adaptive(V), padding_idx=PADDING),
    "projected of bands": lambda: banded(projected(V, PADDING, adaptive(V, 8))),
    "padding within": lambda: in_two(),
    "padding within and without": lambda: in_two(padding_idx=PADDING),
}


def cutoffs_of(embedding):
    return None if len(embedding.bands()) > 1 else CUTOFFS


def within_bands(rows, cutoffs):
    """What a head says of words of one band, whatever it says of the band."""
    stops = [0, *cutoffs, V]
    sizes = [b - a for a, b in zip(stops[:-1], stops[1:], strict=True)]
    return torch.cat([part.log_softmax(-1) for part in rows.split(sizes, -1)], -1)


@pytest.mark.parametrize("make", WHOLE.values(), ids=WHOLE)
def test_the_output_reads_the_rows_of_the_input(make):
    embedding = randomize(make())
    head = randomize(AdaptiveSoftmax(embedding, cutoffs=cutoffs_of(embedding), **LIKE))
    hidden = torch.randn(5, M, **LIKE)
    table = embedding(torch.arange(V))
    found = within_bands(head.log_prob(hidden), head.cutoffs)
    expected = within_bands(hidden @ table.mT, head.cutoffs)
    assert_close(found, expected)
    parameters = list(embedding.parameters())
    weights = torch.randn(5, V, **LIKE)
    found, expected = (
        torch.autograd.grad((x * weights).sum(), parameters) for x in (found, expected)
    )
    assert_close(found, expected)


MAPS = {
    "projected": lambda: ProjectedEmbedding(V, 8, PADDING, map=N, **LIKE),
    "projected of bands": lambda: ProjectedEmbedding(V, 8, map=adaptive(V, N), **LIKE),
    "bands": lambda: adaptive(V, 8),
    "unit": lambda: DeFINE(V, 8, PADDING, map=N, expand_dim=8, depth=1, max_groups=2, **LIKE),
}


@pytest.mark.parametrize("make", MAPS.values(), ids=MAPS)
@pytest.mark.parametrize("in_a_band", [False, True])
def test_tails_are_on_a_map_of_any_kind(make, in_a_band):
    map = make()
    embedding = banded(unit(V, map)) if in_a_band else unit(V, map)
    head = AdaptiveSoftmax(embedding, cutoffs=CUTOFFS, first_band_only=True, **LIKE)
    randomize(embedding), randomize(head)
    hidden = torch.randn(5, M, **LIKE)
    found = within_bands(head.log_prob(hidden), CUTOFFS)
    first = embedding(torch.arange(CUTOFFS[0]))
    assert_close(found[:, : CUTOFFS[0]], (hidden @ first.mT).log_softmax(-1))
    assert_close(head.log_prob(hidden).exp().sum(-1), torch.ones(5, **LIKE))
    targets = torch.tensor([0, CUTOFFS[0], PADDING, CUTOFFS[1], V - 1])
    expected = -head.log_prob(hidden).gather(-1, targets[:, None]).squeeze(-1)
    assert_close(head(hidden, targets), expected)
    if not in_a_band:  # a band's Map has another width than the bands together
        rows = head.tail_projection(hidden) @ map(torch.arange(V)).mT
        tails = within_bands(rows, CUTOFFS)[:, CUTOFFS[0] :]
        assert_close(found[:, CUTOFFS[0] :], tails)


@pytest.mark.parametrize("join", [unit, lambda size, map: projected(size, map=map)])
def test_a_given_table_keeps_the_options_of_its_gradient(join):
    map = nn.Embedding(V, N, padding_idx=PADDING, sparse=True, **LIKE)
    join(V, map)(torch.arange(V)).sum().backward()
    assert map.weight.grad.is_sparse
    reached = map.weight.grad.to_dense().any(1)
    assert not reached[PADDING] and reached.sum() == V - 1


@pytest.mark.parametrize("join", [unit, lambda size, map: banded(map)])
def test_a_given_table_that_counts_occurrences_is_refused(join):
    with pytest.raises(ValueError, match="scale_grad_by_freq=True"):
        join(V, nn.Embedding(V, M, scale_grad_by_freq=True))
