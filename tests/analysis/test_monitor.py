import pytest
import torch

from define import DeFINE
from define.analysis import correlation, embedding_scalars


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
