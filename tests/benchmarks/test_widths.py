import pytest
from widths import widths_for_share

from define.embedding import DeFINE


@pytest.mark.parametrize("share", [1.0, 0.5, 0.25, 0.125])
@pytest.mark.parametrize("schedule", [(1, 1), (2, 1), (3, 4)])
def test_widths_use_the_budget_up(share, schedule):
    size, width = 3000, 64
    depth, max_groups = schedule
    widths = widths_for_share(size, width, share, depth=depth, max_groups=max_groups)
    shape = {"map": widths.map, "depth": depth, "max_groups": max_groups}
    module = DeFINE(size, width, expand_dim=widths.expand_dim, **shape)
    count = sum(p.numel() for p in module.parameters())
    assert count == widths.parameters <= share * size * width
    step = max(max_groups >> (depth - 1), 1)
    wider = DeFINE(size, width, expand_dim=widths.expand_dim + step, **shape)
    assert sum(p.numel() for p in wider.parameters()) > share * size * width


@pytest.mark.parametrize("limit", [None, 128])
def test_what_the_widest_unit_leaves_goes_to_the_map(limit):
    size, width, share = 200_000, 20, 0.5
    widths = widths_for_share(size, width, share, max_expand_dim=limit)
    assert widths.expand_dim == (limit or 1024)
    shape = {"expand_dim": widths.expand_dim, "depth": 1, "max_groups": 1, "device": "meta"}
    wider = DeFINE(size, width, map=widths.map + 1, **shape)
    assert sum(p.numel() for p in wider.parameters()) > share * size * width
    assert widths.parameters <= share * size * width


def test_a_unit_narrower_than_every_map_is_impossible():
    with pytest.raises(ValueError, match="max_expand_dim=0"):
        widths_for_share(1000, 64, 0.5, max_expand_dim=0)


@pytest.mark.parametrize("share", [0.0, 1.5, 0.001])
def test_impossible_share_is_named(share):
    with pytest.raises(ValueError, match=f"share={share}"):
        widths_for_share(1000, 64, share)


def test_groups_must_halve():
    with pytest.raises(ValueError, match="max_groups=3"):
        widths_for_share(1000, 64, 0.5, max_groups=3)
