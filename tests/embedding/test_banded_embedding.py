"""Laws of an embedding of bands."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from define import AdaptiveEmbedding, AdaptiveSoftmax, BandedEmbedding, DeFINE, ProjectedEmbedding
from define.embedding import unit_parameters

LIKE = {"dtype": torch.float64}


def small_define(size, width=8):
    return DeFINE(size, width, map=4, expand_dim=16, depth=1, max_groups=2, **LIKE)


def randomize(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


@given(
    cuts=st.lists(st.integers(1, 39), min_size=1, max_size=3, unique=True).map(sorted),
    ids=st.lists(st.integers(0, 39), max_size=12),
)
def test_an_adaptive_embedding_is_a_special_case(cuts, ids):
    adaptive = AdaptiveEmbedding(40, 8, cutoffs=cuts, div_value=1.5, **LIKE)
    randomize(adaptive)
    parts = []
    for band in adaptive.bands():
        part = nn.Embedding.from_pretrained(band.table.detach())
        if band.projection is not None:
            part = ProjectedEmbedding(len(band.table), 8, map=part, **LIKE)
            part.projection.weight.data[0] = band.projection.data
        parts.append(part)
    banded = BandedEmbedding(40, 8, parts=parts)
    assert_close(banded.weight, adaptive.weight)
    ids = torch.tensor(ids, dtype=torch.int64)
    assert_close(banded(ids), adaptive(ids))
    heads = [AdaptiveSoftmax(embedding, **LIKE) for embedding in (banded, adaptive)]
    heads[0].load_state_dict(heads[1].state_dict())
    hidden = torch.randn(len(ids), 8, **LIKE)
    assert_close(heads[0](hidden, ids), heads[1](hidden, ids))
    assert_close(heads[0].topk(hidden, 5), heads[1].topk(hidden, 5))


def test_each_part_is_read_by_itself():
    parts = [nn.Embedding(5, 8, **LIKE), small_define(7), small_define(9)]
    banded = randomize(BandedEmbedding(21, 8, padding_idx=6, parts=parts))
    expected = torch.cat([parts[0].weight, *(part.whole_table() for part in parts[1:])])
    assert_close(banded.weight, expected.index_fill(0, torch.tensor([6]), 0))
    unit = {id(p) for part in parts[1:] for p in part.unit_parameters()}
    assert {id(p) for p in unit_parameters(banded)} == unit


def test_one_part_is_a_banded_embedding_too():
    embedding = BandedEmbedding(9, 8, parts=[small_define(9)])
    ids = torch.randint(9, (2, 5))
    assert_close(torch.func.vmap(embedding)(ids), embedding(ids))


def test_an_output_layer_reads_what_a_part_computes_or_its_map():
    parts = [nn.Embedding(5, 8, **LIKE), small_define(7), small_define(9)]
    banded = randomize(BandedEmbedding(21, 8, parts=parts))
    hidden = torch.randn(6, 8, **LIKE)
    computed = randomize(AdaptiveSoftmax(banded, **LIKE))
    first = torch.cat([parts[0].weight, computed.cluster_weight])
    head = (hidden @ first.mT).log_softmax(-1)
    tails = [(hidden @ part.whole_table().mT).log_softmax(-1) for part in parts[1:]]
    tails = [head[:, 5 + b, None] + tail for b, tail in enumerate(tails)]
    assert_close(computed.log_prob(hidden), torch.cat([head[:, :5], *tails], -1))

    mapped = randomize(AdaptiveSoftmax(banded, first_band_only=True, **LIKE))
    assert sorted(mapped.projections) == ["1", "2"]  # hidden states to the widths of the Maps
    head = (hidden @ torch.cat([parts[0].weight, mapped.cluster_weight]).mT).log_softmax(-1)
    tails = [
        (hidden @ mapped.projections[str(b)] @ part.map.weight.mT).log_softmax(-1)
        for b, part in enumerate(parts[1:], 1)
    ]
    tails = [head[:, 5 + b, None] + tail for b, tail in enumerate(tails)]
    assert_close(mapped.log_prob(hidden), torch.cat([head[:, :5], *tails], -1))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        ([nn.Embedding(5, 8), nn.Embedding(6, 7)], ValueError, r"widths \[8, 7\].*embedding_dim=8"),
        ([nn.Embedding(5, 8), nn.Embedding(6, 8)], ValueError, r"\[5, 6\] rows.*num_embeddings=12"),
        ([], ValueError, r"widths \[\]"),
        ([nn.Linear(5, 8)], TypeError, "must be an embedding"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, error, message):
    with pytest.raises(error, match=message):
        BandedEmbedding(12, 8, parts=parts)
