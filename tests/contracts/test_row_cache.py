"""Rows that are kept between look-ups: those that the embedding computes, and computed once."""

import copy

import pytest
import torch
from laws import randomize
from makers import OURS, M, V, define
from torch.testing import assert_close

our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)


def counted(embedding):
    """The ids whose rows were computed, filled as they are."""
    ids, rows = [], embedding.rows
    embedding.rows = lambda asked: ids.extend(asked.tolist()) or rows(asked)
    return ids


@our_embeddings
@pytest.mark.parametrize("capacity", [V, 13, 2])
@torch.no_grad()
def test_cached_rows_are_those_that_are_computed(make, capacity):
    embedding = randomize(make(V, M, padding_idx=3)).eval()
    plain = copy.deepcopy(embedding)
    embedding.cache_rows(capacity)
    for ids in torch.randint(V, (30, 2, 4)).int():
        assert_close(embedding(ids), plain(ids))
    assert embedding(torch.zeros(0, 3, dtype=torch.int64)).shape == (0, 3, M)
    with pytest.raises(IndexError, match="is not within"):
        embedding(torch.tensor([-1]))


@torch.no_grad()
def test_repeated_rows_are_computed_once_until_something_changes():
    embedding = define(V, M).eval()
    embedding.cache_rows(10)
    computed = counted(embedding)
    computed.clear()
    ids = torch.tensor([5, 7, 5, 9])
    for _ in range(3):
        embedding(ids)
    assert sorted(set(computed) - {0}) == [5, 7, 9] and len(computed) <= 4
    embedding.map.weight[7] += 1
    computed.clear()
    assert_close(embedding(ids), embedding.whole_table()[ids])
    assert {5, 7, 9} <= set(computed)
    embedding.padding_idx = 7
    assert_close(embedding(ids), embedding.whole_table()[ids])


@torch.no_grad()
def test_the_oldest_row_makes_room():
    embedding = define(V, M).eval()
    embedding.cache_rows(3)
    for id_ in (1, 2, 3, 4):
        embedding(torch.tensor([id_]))
    computed = counted(embedding)
    embedding(torch.tensor([2, 3, 4]))
    assert computed == []
    embedding(torch.tensor([1]))
    assert computed == [1]


def test_in_training_and_with_gradients_nothing_is_kept():
    embedding = define(V, M, dropout=0.5)
    embedding.cache_rows(V)
    ids = torch.tensor([4, 4, 8])
    embedding(ids).sum().backward()
    assert embedding.map.weight.grad[4].any()
    with torch.no_grad():
        assert not torch.equal(embedding(ids), embedding(ids))  # dropout
        embedding.eval().expand.endings.train()
        assert not torch.equal(embedding(ids), embedding(ids))  # in training mode by itself
    with pytest.raises(ValueError, match="capacity=-1"):
        embedding.cache_rows(-1)


@our_embeddings
@torch.no_grad()
def test_it_follows_a_vocabulary_that_grows_and_shrinks(make):
    embedding = make(V, M).eval()
    embedding.cache_rows(10)
    ids = torch.tensor([2, V - 1])
    for size in (V, V + 5, V, V + 9):
        embedding.resize(size)
        last = torch.cat([ids, torch.tensor([size - 1])])
        assert_close(embedding(last), embedding.whole_table()[last])
