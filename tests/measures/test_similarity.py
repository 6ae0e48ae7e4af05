import pytest
import torch
from torch import nn

from define import DeFINE
from define.measures import similarity


def rotation(width):
    return torch.linalg.qr(torch.randn(width, width, dtype=torch.float64)).Q


def reference_cka(a, b):
    """By the formula for centred columns, on whole matrices."""
    a, b = a - a.mean(0), b - b.mean(0)
    return ((b.T @ a).norm() ** 2 / ((a.T @ a).norm() * (b.T @ b).norm())).item()


def test_agrees_with_written_out_formulas():
    a = torch.randn(500, 6, dtype=torch.float64)
    b = a @ torch.randn(6, 4, dtype=torch.float64) + torch.randn(500, 4, dtype=torch.float64)
    found = similarity(a, b)
    assert found.cka == pytest.approx(reference_cka(a, b))
    u, _, vh = torch.linalg.svd((a - a.mean(0)).T @ (b - b.mean(0)), full_matrices=False)
    turned = a @ (u @ vh)
    pairs = [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(turned.T, b.T, strict=True)]
    assert found.rotated_correlation == pytest.approx(torch.stack(pairs).mean().item())


def test_rotation_scale_and_offset_change_nothing():
    a = torch.randn(800, 10, dtype=torch.float64) @ torch.randn(10, 10, dtype=torch.float64)
    b = torch.randn(800, 7, dtype=torch.float64) + a[:, :7]
    same = similarity(a, 3 * a @ rotation(10) + 5)
    assert same.cka == pytest.approx(1) and same.rotated_correlation == pytest.approx(1)
    plain, turned = similarity(a, b), similarity(0.1 * a @ rotation(10) - 2, b)
    assert turned.cka == pytest.approx(plain.cka)
    assert turned.rotated_correlation == pytest.approx(plain.rotated_correlation)
    assert similarity(b, a).cka == pytest.approx(plain.cka)


def test_independent_tables():
    found = similarity(torch.randn(4000, 16), torch.randn(4000, 16))
    assert found.cka < 3 * 16 / 4000
    assert found.rotated_correlation < 0.1


def test_weights_are_repeated_rows():
    a, b, counts = torch.randn(200, 5), torch.randn(200, 3), torch.randint(0, 3, (200,))
    a[:, :3] += b
    weighted = similarity(a, b, counts)
    repeated = similarity(a.repeat_interleave(counts, 0), b.repeat_interleave(counts, 0))
    assert weighted.cka == pytest.approx(repeated.cka)
    assert weighted.rotated_correlation == pytest.approx(repeated.rotated_correlation)


def test_modules_and_dead_dimensions():
    module = DeFINE(300, 12, map=16, expand_dim=32)
    table = nn.Embedding.from_pretrained(torch.cat([module.weight, torch.ones(300, 2)], -1))
    found = similarity(module, table)
    assert found.cka == pytest.approx(1) and found.rotated_correlation == pytest.approx(1)


def test_vocabularies_must_agree():
    with pytest.raises(ValueError, match="300 and 200 rows"):
        similarity(torch.randn(300, 4), torch.randn(200, 4))
