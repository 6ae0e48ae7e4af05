import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from define.data import Segments

SETTINGS = st.fixed_dictionaries(
    {
        "batch_size": st.integers(1, 5),
        "length": st.integers(1, 12),
        "random_lengths": st.booleans(),
        "seed": st.integers(0, 3),
        "drop_last": st.booleans(),
        "world_size": st.integers(1, 3),
    }
)
SIZES = st.integers(16, 300)


def text(size):
    return torch.arange(100, 100 + size, dtype=torch.int32)


def columns(segments):
    """What all batches of an epoch put side by side: tokens and targets, (columns, places)."""
    tokens, targets = zip(*segments, strict=True)
    return torch.cat(tokens, 1), torch.cat(targets, 1)


@given(SIZES, SETTINGS)
@settings(max_examples=100, deadline=None)
def test_ranks_and_batches_partition_the_text(size, setting):
    ids = text(size)
    ranks = [columns(Segments(ids, rank=r, **setting)) for r in range(setting["world_size"])]
    tokens, targets = (torch.cat(parts).flatten() for parts in zip(*ranks, strict=True))
    assert tokens.dtype == targets.dtype == torch.int64
    real = targets != -100
    used = int(real.sum())
    # Columns in the order of the ranks give back the text; targets are the text one place on.
    assert torch.equal(tokens[real], ids[:used].long())
    assert torch.equal(targets[real], ids[1 : used + 1].long())
    assert not tokens[~real].any()
    if setting["drop_last"]:
        assert real.all() and size - 1 - used < setting["batch_size"] * setting["world_size"]
    else:
        assert used == size - 1


@given(SIZES, SETTINGS)
@settings(max_examples=50, deadline=None)
def test_the_plan_is_exact_in_every_epoch(size, setting):
    segments = Segments(text(size), **setting)
    for _ in range(3):
        plan, count = segments.lengths, len(segments)
        batches = list(segments)
        assert count == len(plan) == len(batches)
        assert plan == tuple(tokens.shape[1] for tokens, _ in batches)
        assert all(tokens.shape[0] == setting["batch_size"] for tokens, _ in batches)


@given(SIZES, SETTINGS, st.data())
@settings(max_examples=100, deadline=None)
def test_resuming_from_any_batch_changes_nothing(size, setting, data):
    segments = Segments(text(size), **setting)
    batches, states = [], [copy.deepcopy(segments.state_dict())]
    for _ in range(2):
        for batch in segments:
            batches.append(batch)
            states.append(copy.deepcopy(segments.state_dict()))
    first = data.draw(st.integers(0, len(batches) - 1))
    resumed = Segments(text(size), **setting)
    resumed.load_state_dict(states[first])
    again = list(resumed)
    while len(again) < len(batches) - first:
        again += list(resumed)
    for (tokens, targets), (same, same_targets) in zip(batches[first:], again, strict=True):
        assert torch.equal(tokens, same) and torch.equal(targets, same_targets)
    assert resumed.state_dict() == states[-1]


def test_an_abandoned_iteration_starts_again_unless_it_is_resumed():
    segments = Segments(text(100), 2, 5)
    first = next(iter(segments))
    assert torch.equal(next(iter(segments))[0], first[0])
    segments.load_state_dict(segments.state_dict())
    assert torch.equal(next(iter(segments))[0], first[0] + 5)


def test_random_lengths_follow_awd_lstm():
    segments = Segments(torch.zeros(2_000_000, dtype=torch.int32), 1, 70, random_lengths=True)
    lengths = torch.tensor(segments.lengths[:-1]).double()
    assert lengths.min() >= 5 and sum(segments.lengths) == 1_999_999
    half = lengths < 52.5
    assert abs(half.double().mean() - 0.05) < 0.01
    assert abs(lengths[~half].mean() - 70) < 1 and abs(lengths[~half].std() - 5) < 0.3
    assert abs(lengths[half].mean() - 35) < 1


def test_epochs_and_seeds_have_other_plans():
    segments, other = (Segments(text(2000), 2, 20, random_lengths=True, seed=s) for s in (0, 1))
    plan = segments.lengths
    assert plan != other.lengths
    list(segments)
    assert plan != segments.lengths


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 10}, "10 tokens is too short for batch_size=10 and world_size=1"),
        ({"batch_size": 0}, "batch_size=0"),
        ({"length": 0}, "length=0"),
        ({"rank": 2, "world_size": 2}, "rank=2 .* world_size=2"),
        ({"ids": torch.zeros(2, 5, dtype=torch.int32)}, r"\(2, 5\)"),
        ({"ids": torch.zeros(9)}, "torch.float32"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        Segments(**{"ids": text(10), "batch_size": 2, "length": 3, **arguments})


def test_a_position_of_another_setting():
    state = Segments(text(100), 2, 5).state_dict()
    with pytest.raises(ValueError, match="columns=2, but .* columns=4"):
        Segments(text(100), 4, 5).load_state_dict(state)
