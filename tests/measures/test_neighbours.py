import pytest
import torch
import torch.nn.functional as F

from define import DeFINE
from define.measures import nearest_neighbours, some_words, word_map
from define.measures.rows import gather_rows


def test_agrees_with_all_pairs():
    table, ids = torch.randn(5000, 7), torch.tensor([4999, 0, 4095, 4096])
    cosines, near = nearest_neighbours(table, ids, 5)
    everything = F.normalize(table[ids], dim=-1) @ F.normalize(table, dim=-1).mT
    everything[torch.arange(4), ids] = -2
    expected = everything.topk(5)
    torch.testing.assert_close(cosines, expected.values)
    assert torch.equal(near, expected.indices)


def test_module_ties_zeros_and_nan():
    module = DeFINE(100, 8, map=16, expand_dim=32)
    table = module.weight.detach()
    torch.testing.assert_close(
        nearest_neighbours(module, torch.tensor([3, 3]))[0],
        nearest_neighbours(table, torch.tensor([3, 3]))[0],
    )
    table = torch.tensor([[1.0, 0], [0, 0], [2, 0], [3, 0], [torch.nan, 1], [-1, 0]])
    cosines, near = nearest_neighbours(table, torch.tensor([0]), 99)
    assert near.tolist() == [[2, 3, 1, 5, 4]]  # of equal ones the lower id first
    assert cosines.tolist() == [[1, 1, 0, -1, -torch.inf]]


def test_what_is_wrong_is_named():
    table = torch.randn(5, 3)
    with pytest.raises(IndexError, match="id 5 is outside of a table of 5"):
        nearest_neighbours(table, torch.tensor([5]))
    with pytest.raises(ValueError, match="count=0"):
        nearest_neighbours(table, torch.tensor([1]), 0)
    table[2, 0] = torch.inf
    with pytest.raises(ValueError, match="Row 2"):
        nearest_neighbours(table, torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="Row 2"):
        word_map(table, torch.arange(4))


def test_rows_are_gathered_in_the_order_asked_for():
    table, ids = torch.randn(9000, 3), torch.tensor([8999, 0, 5000, 0])
    assert torch.equal(gather_rows(table, ids), table[ids])
    module = DeFINE(9000, 3, map=16, expand_dim=32, dropout=0.5)
    torch.testing.assert_close(gather_rows(module, ids), module.weight[ids])


def test_map_is_the_plane_of_largest_variance():
    table = torch.randn(400, 6) * torch.tensor([1.0, 9, 1, 1, 4, 1])
    ids = torch.arange(300)
    found = word_map(table, ids)
    centred = table[:300].double() - table[:300].double().mean(0)
    variances = torch.linalg.svdvals(centred).square()
    torch.testing.assert_close(found.places.square().sum(0), variances[:2])
    assert found.explained == pytest.approx((variances[:2] / variances.sum()).tolist())
    mirrored = word_map(table @ torch.diag(torch.tensor([1.0, 1, 1, 1, 1, -1])), ids)
    torch.testing.assert_close(found.places, mirrored.places)  # the same sign
    assert torch.corrcoef(torch.stack([found.places[:, 0], centred[:, 1]]))[0, 1] > 0.9


def test_too_few_words_for_a_map():
    with pytest.raises(ValueError, match=r"not \(2, 5\)"):
        word_map(torch.randn(9, 5), torch.arange(2))


def test_a_text_without_long_words_has_words_to_look_at_all_the_same():
    assert some_words(["a", "b", "c"], torch.tensor([1, 5, 3])) == [1, 2, 0]
