import pytest
import torch
from torch.testing import assert_close

from define.compression import compress_table, stored_bytes
from define.compression.allocation import allocate


@pytest.fixture
def table():
    torch.manual_seed(0)
    v, m = 2000, 64
    return torch.randn(v, m) @ torch.diag(torch.linspace(2, 0.02, m)) @ torch.randn(m, m)


ZIPF = 1 / torch.arange(1.0, 2001)


def error(rows, table, weights):
    rows = rows.detach()
    return float((weights @ (rows - table).square().sum(1)) / (weights @ table.square().sum(1)))


@pytest.mark.parametrize("share", [1 / 3, 1 / 7, 1 / 16, 1 / 32])
def test_what_is_taken_keeps_to_the_budget_and_is_the_best_that_was_tried(table, share):
    compressed = compress_table(table, ZIPF, share=share)
    taken = compressed.taken
    assert stored_bytes(compressed.embedding) == taken.bytes <= share * table.nbytes
    assert taken.error == min(candidate.error for candidate in compressed.candidates)
    assert_close(taken.error, error(compressed.embedding.weight, table, ZIPF), rtol=1e-3, atol=0)
    assert taken.name in str(compressed)


def test_more_bytes_are_never_worse(table):
    errors = [compress_table(table, ZIPF, share=1 / s).taken.error for s in (4, 8, 16, 32)]
    assert errors == sorted(errors)


def test_bits_follow_the_weights(table):
    frequent = slice(0, 100)
    zipf, equal = (
        compress_table(table, weights, share=1 / 24).embedding.weight for weights in (ZIPF, None)
    )
    ones = torch.ones(100)
    first = [error(rows[frequent], table[frequent], ones) for rows in (zipf, equal)]
    assert first[0] < 0.3 * first[1]


def test_plain_rows_are_told_beside_what_is_taken(table):
    names = {candidate.name for candidate in compress_table(table, ZIPF, share=0.3).candidates}
    assert {"int8 rows", "int4 rows", "int4 rows, a scale for 32"} <= names


@pytest.mark.parametrize("budget", [20_000, 50_000, 100_000])
def test_an_allocation_uses_its_budget(table, budget):
    found = allocate(table, ZIPF, budget, group_size=16)
    per_class = torch.tensor([sum(bits) * 16 / 8 for bits in found.bits])
    used = float(per_class[found.classes].sum()) + 3 * len(table)
    assert 0.9 * budget < used <= budget


def test_a_budget_without_room_is_refused(table):
    assert allocate(table, ZIPF, 2000) is None
    with pytest.raises(ValueError, match=r"5,000 bytes are too few for 2,000 rows"):
        compress_table(table, max_bytes=5000)


@pytest.mark.parametrize(
    "options", [{}, {"share": 0.5, "max_bytes": 5}, {"share": 0}, {"share": 2}]
)
def test_a_budget_is_given_once_and_within_range(table, options):
    with pytest.raises(ValueError, match="share="):
        compress_table(table, **options)


def test_the_padding_row_is_zero_and_does_not_count(table):
    table[7] = 1e4
    compressed = compress_table(table, share=1 / 8, padding_idx=7)
    assert not compressed.embedding.weight[7].any()
    rest = torch.arange(2000) != 7
    ones = torch.ones(1999)
    assert error(compressed.embedding.weight[rest], table[rest], ones) < 0.2


def test_directions_that_cost_more_are_kept_better(table):
    metric = torch.diag(torch.tensor([100.0] * 8 + [1.0] * 56))
    plain, kept = (
        compress_table(table, ZIPF, share=1 / 24, metric=m).embedding.weight.detach() - table
        for m in (None, metric)
    )
    assert kept[:, :8].square().sum() < 0.5 * plain[:, :8].square().sum()
    same = compress_table(table, ZIPF, share=1 / 24, metric=3 * torch.eye(64))
    assert_close(same.taken.error, error(same.embedding.weight, table, ZIPF), rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    ("metric", "message"), [(torch.eye(3), r"\(64, 64\)"), (-torch.eye(64), "eigenvalue is -1")]
)
def test_what_is_no_metric_is_refused(table, metric, message):
    with pytest.raises(ValueError, match=message):
        compress_table(table, share=0.1, metric=metric)


def test_a_table_of_clusters_is_stored_as_such():
    torch.manual_seed(0)
    table = torch.randn(100, 32)[torch.arange(3000) % 100] + 0.2 * torch.randn(3000, 32)
    compressed = compress_table(table, share=1 / 20)
    assert "centres" in compressed.taken.name
    assert compressed.taken.error < 0.1 and compressed.taken.bytes <= table.nbytes / 20
