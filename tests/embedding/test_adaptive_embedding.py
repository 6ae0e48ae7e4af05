"""Laws of the adaptive embedding, against the look-up written out."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from define import AdaptiveEmbedding


@given(
    cutoffs=st.sets(st.integers(1, 29), min_size=1, max_size=4).map(sorted),
    map_dim=st.sampled_from([None, 8, 20]),
    div_value=st.sampled_from([1, 1.5, 2]),
    project_first=st.booleans(),
    padding_idx=st.none() | st.integers(0, 29),
    ids=st.lists(st.integers(0, 29), max_size=20),
)
def test_rows_are_looked_up_band_by_band(
    cutoffs, map_dim, div_value, project_first, padding_idx, ids
):
    embedding = AdaptiveEmbedding(
        30,
        16,
        padding_idx,
        cutoffs=cutoffs,
        map_dim=map_dim,
        div_value=div_value,
        project_first=project_first,
        dtype=torch.float64,
    )
    rows = []
    for id_ in ids:
        band = sum(id_ >= cutoff for cutoff in cutoffs)
        row = embedding.tables[band][id_ - [0, *cutoffs][band]]
        assert len(row) == int((map_dim or 16) / div_value**band)
        if len(row) != 16 or (band == 0 and project_first):
            row = embedding.projections[str(band)] @ row
        rows.append(row * (id_ != padding_idx))
    expected = torch.stack(rows) if ids else torch.empty(0, 16, dtype=torch.float64)
    assert_close(embedding(torch.tensor(ids, dtype=torch.int64)), expected)


@pytest.mark.parametrize(
    ("options", "bands"),
    [
        ({}, ["1", "2"]),
        ({"project_first": True}, ["0", "1", "2"]),
        ({"div_value": 1}, []),
        ({"div_value": 1, "map_dim": 8}, ["0", "1", "2"]),
    ],
)
def test_bands_are_projected_where_their_width_is_another(options, bands):
    embedding = AdaptiveEmbedding(30, 16, cutoffs=[5, 20], **options)
    assert list(embedding.projections) == bands
    assert [embedding.projection(b) is None for b in range(3)] == [
        str(b) not in bands for b in range(3)
    ]


@pytest.mark.parametrize("cutoffs", [[], [0, 5], [5, 5], [20, 5], [5, 30], [5, 31], [-1, 5]])
def test_cutoffs_that_do_not_cut_are_refused(cutoffs):
    with pytest.raises(ValueError, match="cutoffs=.* must increase between 0 and num_embedd.*=30"):
        AdaptiveEmbedding(30, 16, cutoffs=cutoffs)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cutoffs", [5, "5", [2.5]])
def test_cutoffs_that_are_no_integers_are_refused(cutoffs):
    with pytest.raises(TypeError, match="cutoffs=.* must be a sequence of integers"):
        AdaptiveEmbedding(30, 16, cutoffs=cutoffs)


@pytest.mark.parametrize(
    ("div_value", "message"),
    [(0.5, "div_value=0.5"), (float("nan"), "div_value=nan"), (20, r"\(16, 0, 0\)")],
)
def test_a_division_that_leaves_nothing_is_refused(div_value, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveEmbedding(30, 16, cutoffs=[5, 20], div_value=div_value)


@pytest.mark.parametrize("std", [1.0, 0.1])
@pytest.mark.parametrize("options", [{}, {"div_value": 1, "map_dim": 32}, {"project_first": True}])
def test_all_bands_begin_with_the_wanted_deviation(options, std):
    embedding = AdaptiveEmbedding(3000, 128, cutoffs=[1000, 2000], std=std, **options)
    for band in embedding.weight.split(1000):
        assert 0.85 < band.std() / std < 1.15
        assert band.mean().abs() < 0.1 * std


def test_sparse_gradients_are_the_dense_ones():
    dense = AdaptiveEmbedding(30, 16, cutoffs=[5, 20])
    sparse = AdaptiveEmbedding(30, 16, cutoffs=[5, 20], sparse=True)
    sparse.load_state_dict(dense.state_dict())
    ids = torch.tensor([3, 7, 7, 25])
    for embedding in (dense, sparse):
        embedding(ids).square().sum().backward()
    for a, b in zip(sparse.tables, dense.tables, strict=True):
        assert a.grad.is_sparse
        assert_close(a.grad.to_dense(), b.grad)


def test_one_wide_band_after_another_is_one_table():
    """div_value=1 without projections is nothing but a table cut in pieces."""
    embedding = AdaptiveEmbedding(30, 16, cutoffs=[5, 20], div_value=1)
    table = nn.Embedding(30, 16)
    with torch.no_grad():
        for piece, rows in zip(embedding.tables, table.weight.split([5, 15, 10]), strict=True):
            piece.copy_(rows)
    assert torch.equal(embedding.weight, table.weight)


@pytest.mark.parametrize(
    ("num_embeddings", "embedding_dim", "cutoffs"),
    [
        (10_000, 200, (1000, 3500)),
        (267_735, 256, (20_080, 40_160, 200_801)),
        (50, 8, (5,)),  # a third band would have half a column
        (10, 16, (1, 3)),
        (9, 16, (1, 3)),
        (2, 16, (1,)),  # the vocabulary of one word and the end of a line
    ],
)
def test_cutoffs_follow_the_size_of_the_vocabulary(num_embeddings, embedding_dim, cutoffs):
    embedding = AdaptiveEmbedding(num_embeddings, embedding_dim, device="meta")
    assert embedding.cutoffs == cutoffs
    again = AdaptiveEmbedding(**embedding.arguments(), device="meta")
    assert again.cutoffs == cutoffs


def test_a_vocabulary_without_bands_by_frequency_is_named():
    with pytest.raises(ValueError, match="num_embeddings=1 is too small .* at least 2"):
        AdaptiveEmbedding(1, 16)
    with pytest.raises(ValueError, match="div_value=4.0"):
        AdaptiveEmbedding(30, 3)
