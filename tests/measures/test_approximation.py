import math

import pytest
import torch

from define.measures import band_errors, changed_neighbours

V = 500


def test_errors_are_those_of_the_rows_of_each_rank():
    table = torch.randn(V, 8)
    weights = torch.rand(V)
    order = weights.argsort(descending=True)
    other = table.clone()
    other[order[10:100]] = 0
    other[order[100:]] *= 0.5
    bands = band_errors(table, other, weights, edges=(10, 100, 10_000))
    assert [(band.first, band.last) for band in bands] == [(1, 10), (11, 100), (101, V)]
    assert [band.error for band in bands] == pytest.approx([0, 1, 0.25])


def test_rows_of_zeros_have_no_relative_error():
    table, other = torch.randn(V, 8), torch.randn(V, 8)
    table[10:100] = 0
    errors = [band.error for band in band_errors(table, other, torch.arange(V, 0, -1), (10, 100))]
    assert [math.isfinite(error) for error in errors] == [True, False, True]
    assert math.isnan(errors[1])


def test_neighbours_that_are_others_are_counted():
    table = torch.eye(V, 64) + torch.randn(V, 64)
    same = changed_neighbours(table, 2 * table, torch.ones(V))
    assert same.kept == 1 and len(same.ids) > 50
    other = changed_neighbours(table, torch.randn(V, 64), torch.ones(V), count=3)
    assert other.kept < 0.1 and other.before.shape == (len(other.ids), 3)
    table[:10] = 0  # no direction, no neighbours
    assert changed_neighbours(table, table, torch.arange(V, 0, -1)).ids.min() >= 10
