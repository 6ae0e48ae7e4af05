import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from define.translation import Sentences, TokenBatches
from define.translation.token_batches import token_plan


def sentences(lengths, first):
    """Sentences of the given lengths; the first id of each is its own."""
    ids = [[first + i, *[2] * (length - 2), 1] for i, length in enumerate(lengths)]
    flat = np.array([id_ for row in ids for id_ in row], np.int32)
    return Sentences(flat, np.array(lengths, np.int32))


def made(count=300, **options):
    draw = np.random.default_rng(0)
    source, target = (draw.integers(2, 20, count).tolist() for _ in range(2))
    return TokenBatches(sentences(source, 1000), sentences(target, 5000), 100, **options)


def pairs_of(batches):
    return [
        (row[0].item(), t[0].item()) for s, y, _ in batches for row, t in zip(s, y, strict=True)
    ]


@given(
    st.lists(st.tuples(st.integers(2, 30), st.integers(2, 30)), min_size=1, max_size=60),
    st.integers(60, 200),
    st.booleans(),
    st.integers(0, 3),
)
def test_every_pair_once_and_none_above_the_bound(lengths, bound, shuffle, epoch):
    source, target = np.array(lengths).T
    draw = np.random.default_rng(epoch) if shuffle else None
    plan = token_plan(source, target, bound, draw)
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    for batch in plan:
        assert len(batch) * (source[batch].max() + target[batch].max()) <= bound


def test_batches_hold_the_pairs_and_padding():
    batches = made()
    for epoch in range(3):
        count = len(batches)
        found = list(batches)
        assert len(found) == count
        assert sorted(pairs_of(found)) == [(1000 + i, 5000 + i) for i in range(300)]
        for source, target, count in found:
            assert count == (target != -100).sum()
            assert source.numel() + target.numel() <= 100
            assert ((source == 0) == (source == 0).cummax(-1).values).all()  # at the end alone
            assert ((target == 1).sum(-1) == 1).all()
            assert (target[(target == 1).cumsum(-1) == 0] > 1).all()
            after = (target == 1).cumsum(-1) - (target == 1).long() == 1
            assert (target[after] == -100).all()
        filled = sum((s != 0).sum() + (y != -100).sum() for s, y, _ in found)
        assert filled / sum(s.numel() + y.numel() for s, y, _ in found) > 0.8, epoch


def test_epochs_differ_and_seeds_decide():
    one, two, other = made(seed=1), made(seed=1), made(seed=2)
    first, second = pairs_of(one), pairs_of(one)
    assert first != second
    assert [pairs_of(two), pairs_of(two)] == [first, second]
    assert pairs_of(other) != first
    still = made(shuffle=False)
    assert pairs_of(still) == pairs_of(still)


@pytest.mark.parametrize("done", [1, 5, "all"])
def test_a_position_goes_on_exactly(done):
    whole = made(seed=3)
    expected = [pairs_of([batch]) for _ in range(3) for batch in whole]
    batches, found = made(seed=3), []
    iterator = iter(batches)
    for _ in range(len(batches) if done == "all" else done):
        found.append(pairs_of([next(iterator)]))
    state = batches.state_dict()
    again = made(seed=3)
    again.load_state_dict(state)
    while len(found) < len(expected):
        found += [pairs_of([batch]) for batch in again]
    assert found == expected
    for wrong, name in (({"seed": 4}, "seed=3"), ({"shuffle": False}, "shuffle=True")):
        with pytest.raises(ValueError, match=name):
            made(**{"seed": 3, **wrong}).load_state_dict(state)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("world_size", [2, 3, 64])
def test_ranks_share_each_batch(shuffle, world_size):
    """Whatever their number; one that has no pair of a batch has padding."""
    whole = made(shuffle=shuffle)
    ranks = [made(shuffle=shuffle, rank=rank, world_size=world_size) for rank in range(world_size)]
    assert {len(rank) for rank in ranks} == {len(whole)}
    for batch, *parts in zip(whole, *ranks, strict=True):
        assert {part[2] for part in parts} == {batch[2]} == {int((batch[1] != -100).sum())}
        counted = [part for part in parts if (part[1] != -100).any()]
        assert sorted(pairs_of(counted)) == sorted(pairs_of([batch]))
        assert len(counted) == min(world_size, len(batch[0]))


def test_arguments_are_checked():
    source, target = sentences([5, 6], 10), sentences([7, 8], 10)
    with pytest.raises(ValueError, match="max_tokens=13 must be at least 14"):
        TokenBatches(source, target, 13)
    with pytest.raises(ValueError, match="rank=2"):
        TokenBatches(source, target, 50, rank=2, world_size=2)
    with pytest.raises(ValueError, match=r"len\(source\)=2 must equal len\(target\)=1"):
        TokenBatches(source, sentences([7], 10), 50)
    assert torch.equal(source[1], torch.tensor([11, 2, 2, 2, 2, 1]))
