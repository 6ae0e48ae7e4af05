import math

import numpy as np
import pytest
import torch
from torch import nn

from define import DeFINE
from define.measures import correlation, embedding_scalars
from define.measures.correlation import Moments, correlations
from define.measures.rows import row_chunks


def correlated(rows=5000, width=12, dtype=torch.float32):
    return (torch.randn(rows, width) @ torch.randn(width, width) + 3).to(dtype)


def reference_rank(table, weights=None):
    """Roy & Vetterli's from numpy's own singular value decomposition."""
    table = table.double().numpy()
    weights = np.ones(len(table)) if weights is None else weights.double().numpy()
    centred = (table - np.average(table, 0, weights)) * np.sqrt(weights)[:, None]
    p = np.linalg.svd(centred, compute_uv=False)
    p = p / p.sum()
    return np.exp(-(p * np.log(p)).sum())


def test_agrees_with_numpy():
    table = correlated()
    found = correlation(table)
    expected = np.corrcoef(table.double().numpy(), rowvar=False)
    np.testing.assert_allclose(found.matrix, expected, atol=1e-12)
    off_diagonal = np.abs(expected[~np.eye(12, dtype=bool)])
    assert found.mean_absolute == pytest.approx(off_diagonal.mean())
    assert found.effective_rank == pytest.approx(reference_rank(table), rel=1e-6)
    variances = np.linalg.eigvalsh(np.cov(table.double().numpy(), rowvar=False))
    expected = variances.sum() ** 2 / (variances**2).sum()
    assert found.participation_ratio == pytest.approx(expected)


def test_weighted_agrees_with_numpy():
    table, weights = correlated(2000), torch.rand(2000) * 9
    found = correlation(table, weights)
    covariance = np.cov(table.double().numpy(), rowvar=False, aweights=weights.double().numpy())
    deviations = np.sqrt(np.diag(covariance))
    np.testing.assert_allclose(found.matrix, covariance / np.outer(deviations, deviations))
    assert found.effective_rank == pytest.approx(reference_rank(table, weights), rel=1e-6)


def test_weights_are_repeated_rows():
    table, counts = correlated(300), torch.randint(0, 4, (300,))
    repeated = correlation(table.repeat_interleave(counts, 0))
    weighted = correlation(table, counts)
    torch.testing.assert_close(weighted.matrix, repeated.matrix)
    torch.testing.assert_close(weighted.singular_values, repeated.singular_values)


def test_independent_columns():
    found = correlation(torch.randn(20_000, 16))
    assert found.mean_absolute == pytest.approx(math.sqrt(2 / (math.pi * 20_000)), rel=0.2)
    assert found.effective_rank > 15.99


@pytest.mark.parametrize("rank", [1, 2, 5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_effective_rank_is_at_most_the_rank(rank, dtype):
    table = torch.randn(3000, rank, dtype=dtype) @ torch.randn(rank, 40, dtype=dtype) + 1
    found = correlation(table)
    assert 0.5 * rank < found.effective_rank <= rank + 1e-9
    assert (found.singular_values > 0).sum() == rank


def test_one_matrix_of_equal_columns():
    found = correlation(torch.randn(100, 1).expand(100, 4))
    assert found.mean_absolute == pytest.approx(1)
    assert found.effective_rank == pytest.approx(1)


def test_chunks_equal_the_whole(monkeypatch):
    table = correlated(1003) + 1e4
    whole, parts = Moments(12), Moments(12)
    whole.add(table)
    for chunk in table.split(64):
        parts.add(chunk)
    torch.testing.assert_close(parts.correlation().matrix, whole.correlation().matrix)
    torch.testing.assert_close(parts.mean, whole.mean)


def moments_of(table, weights=None, dtype=torch.float32):
    """From chunks of 1000 rows."""
    found = Moments(table.shape[1], dtype)
    for ids in torch.arange(len(table)).split(1000):
        found.add(table[ids], None if weights is None else weights[ids])
    return found


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("weights", [None, 1e6 / torch.arange(1, 5001).double()])
def test_products_in_float32(offset, weights):
    table = correlated() + offset
    table[:, 4] = 0.1 + offset
    exact, found = moments_of(table.double(), weights), moments_of(table, weights)
    torch.testing.assert_close(found.mean, exact.mean, rtol=1e-9, atol=1e-6)
    deviations = exact.scatter.diagonal().sqrt()
    scale = deviations * deviations[:, None]
    error = (found.covariance() - exact.covariance()).abs() * exact.total
    usable = torch.arange(12) != 4
    assert (error / scale)[usable][:, usable].max() < 2e-6
    assert found.correlation().constant == (4,)
    usual = correlation(table, weights)
    torch.testing.assert_close(
        found.correlation().matrix, usual.matrix, atol=2e-6, rtol=0, equal_nan=True
    )
    assert found.correlation().effective_rank == pytest.approx(usual.effective_rank, rel=1e-4)


@pytest.mark.parametrize("weights", [None, 1e6 / torch.arange(1, 3001).double()])
@pytest.mark.parametrize("width", [40, 300])  # one block of products, and two
@pytest.mark.parametrize("rank", [1, 5])
def test_rounding_in_float32_adds_no_rank(rank, width, weights):
    table = torch.randn(3000, rank) @ torch.randn(rank, width) + 1
    found = moments_of(table, weights).correlation()
    assert (found.singular_values > 0).sum() == rank
    assert found.effective_rank <= rank + 1e-9
    exact = correlation(table, weights)
    torch.testing.assert_close(found.singular_values, exact.singular_values, rtol=1e-4, atol=1e-4)


def test_products_are_never_less_precise_than_the_rows():
    table = correlated(dtype=torch.float64)
    exact = moments_of(table, dtype=torch.float64).scatter
    assert torch.equal(moments_of(table, dtype=torch.float32).scatter, exact)


def test_more_columns_than_a_block():
    table = torch.randn(2000, 600) + torch.randn(2000, 1)
    expected = torch.corrcoef(table.double().mT)
    torch.testing.assert_close(correlation(table).matrix, expected)


def test_several_weightings_are_as_each_alone():
    table, weights = correlated(5000), torch.rand(5000)
    together = correlations(table, [None, weights])
    for found, alone in zip(together, (None, weights), strict=True):
        assert torch.equal(found.matrix, correlation(table, alone).matrix)


def test_constant_and_nonfinite_dimensions_are_named():
    table = torch.randn(50, 6)
    table[:, 1] = 0.1
    table[7, 3] = torch.nan
    table[9, 4] = torch.inf
    found = correlation(table)
    assert (found.constant, found.nonfinite) == ((1,), (3, 4))
    usable = [0, 2, 5]
    expected = correlation(table[:, usable])
    torch.testing.assert_close(found.matrix[usable][:, usable], expected.matrix)
    assert found.matrix[[1, 3, 4]].isnan().all() and found.matrix[:, [1, 3, 4]].isnan().all()
    assert found.mean_absolute == pytest.approx(expected.mean_absolute)
    assert found.effective_rank == pytest.approx(expected.effective_rank)
    assert len(found.singular_values) == 4  # of the finite ones


def test_rounding_does_not_make_a_constant_dimension_vary():
    table = torch.randn(50, 3)
    table[:, 1] = 1.0 + torch.finfo(torch.float32).eps * torch.arange(50).remainder(2)
    assert correlation(table).constant == (1,)


@pytest.mark.parametrize("value", [0.0, torch.nan])
def test_nothing_to_correlate(value):
    found = correlation(torch.full((5, 3), value))
    assert math.isnan(found.mean_absolute)
    assert found.effective_rank == found.participation_ratio == 0


def test_any_embedding():
    module = DeFINE(300, 20, map=16, expand_dim=32, padding_idx=4, dropout=0.5)
    table = module.weight.detach()
    expected = correlation(table).matrix
    for other in (module, nn.Embedding.from_pretrained(table), table.double()):
        torch.testing.assert_close(correlation(other).matrix, expected)
    assert module.training  # as it was


def test_low_precision():
    table = correlated(dtype=torch.bfloat16)
    torch.testing.assert_close(correlation(table).matrix, correlation(table.double()).matrix)


def test_a_computed_table_is_never_whole(allocations):
    module = DeFINE(20_000, 32, map=16, expand_dim=32)
    with allocations() as seen:
        correlation(module)
    assert seen.largest < 20_000 * 32
    assert sum(len(rows) for _, rows in row_chunks(module)) == 20_000


@pytest.mark.parametrize(
    ("table", "weights", "error", "message"),
    [
        (torch.randn(5), None, ValueError, r"\(V, m\) real numbers, not \(5,\)"),
        (torch.ones(5, 2, dtype=torch.int64), None, ValueError, "int64"),
        (nn.ReLU(), None, TypeError, "ReLU"),
        (torch.randn(5, 2), torch.ones(4), ValueError, r"\(4,\) .* 5 rows"),
        (torch.randn(2, 2), torch.tensor([1.0, -1.0]), ValueError, "from -1.0 to 1.0"),
        (torch.randn(2, 2), torch.zeros(2), ValueError, "some above"),
    ],
)
def test_what_is_wrong_is_named(table, weights, error, message):
    with pytest.raises(error, match=message):
        correlation(table, weights)


def test_scalars_of_the_most_frequent_words():
    module = DeFINE(3000, 24, map=16, expand_dim=32).train()
    found = embedding_scalars(module, 1000)
    expected = correlation(module.weight[:1000].detach())
    assert found == pytest.approx(
        {
            "embedding_correlation": expected.mean_absolute,
            "embedding_effective_rank": expected.effective_rank,
        }
    )
    assert module.training


def test_fewer_rows_than_asked_for():
    table = torch.randn(50, 4)
    assert embedding_scalars(table)["embedding_correlation"] == correlation(table).mean_absolute
