import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE
from define.measures.rows import held


def test_rows_that_are_computed_are_held():
    computed = DeFINE(5000, 12, 7, map=8, expand_dim=16, max_groups=4, dropout=0.5)
    for module in (computed, AdaptiveEmbedding(300, 8, cutoffs=[20]).double()):
        rows = held(module)
        assert isinstance(rows, torch.Tensor) and not rows.requires_grad
        assert rows.dtype == module.weight.dtype and module.training
        torch.testing.assert_close(rows, module.weight)


def test_tables_that_are_there_and_those_too_large_stay_as_they_are():
    plain, matrix = nn.Embedding(50, 8), torch.randn(50, 8)
    assert held(plain) is plain and held(matrix) is matrix
    module = DeFINE(100, 8, map=4, expand_dim=16, max_groups=4)
    assert held(module, limit=100 * 8 * 4 - 1) is module
    assert isinstance(held(module, limit=100 * 8 * 4), torch.Tensor)
