"""Laws of the projective embedding."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import ProjectedEmbedding


@pytest.mark.parametrize("bias", [True, False])
def test_the_table_is_the_product_of_two_matrices(bias):
    embedding = ProjectedEmbedding(30, 12, map=4, bias=bias, dtype=torch.float64)
    if bias:
        nn.init.normal_(embedding.projection.bias)
    expected = embedding.map.weight @ embedding.projection.weight[0].mT
    if bias:
        expected = expected + embedding.projection.bias
    assert_close(embedding.weight, expected)
    assert torch.linalg.matrix_rank(embedding.weight) == 4 + bias


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_pretrained_table_of_full_rank_is_kept(dtype):
    table = torch.randn(20, 6, dtype=dtype)
    embedding = ProjectedEmbedding.from_pretrained(table, map=6, padding_idx=3)
    expected = table.index_fill(0, torch.tensor([3]), 0)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    assert embedding.weight.dtype == dtype
    assert_close(embedding.weight, expected, rtol=0, atol=tolerance)


def test_a_pretrained_table_is_cut_to_its_best_approximation():
    table = torch.randn(20, 6, dtype=torch.float64)
    embedding = ProjectedEmbedding.from_pretrained(table, map=2)
    # Eckart and Young: what is lost is what the smaller singular values hold.
    lost = torch.linalg.svdvals(table)[2:].norm()
    assert_close((embedding.weight - table).norm(), lost)


@pytest.mark.usefixtures("unchecked")
def test_a_rank_above_that_of_the_table_is_refused():
    with pytest.raises(ValueError, match="map=7 must be at most"):
        ProjectedEmbedding.from_pretrained(torch.randn(20, 6), map=7)


@pytest.mark.parametrize("map", [0, -2])
def test_a_map_without_width_is_refused(map):
    with pytest.raises(ValueError, match=f"map={map}"):
        ProjectedEmbedding(30, 12, map=map)


def test_a_map_of_another_vocabulary_is_refused_with_both_sizes():
    with pytest.raises(ValueError, match=r"map.num_embeddings=31 must equal num_embeddings=30"):
        ProjectedEmbedding(30, 12, map=nn.Embedding(31, 4))


@pytest.mark.parametrize("std", [0.0, -1.0])
@pytest.mark.parametrize("map", [4, nn.Embedding(30, 4)], ids=["width", "module"])
def test_a_deviation_must_be_positive(std, map):
    with pytest.raises(ValueError, match=f"{std=} must be above 0"):
        ProjectedEmbedding(30, 12, map=map, std=std)
