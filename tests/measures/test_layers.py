import pytest
import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.measures import correlation, group_correlation, layer_correlations, layers
from define.measures.layers import layers_by


@pytest.mark.parametrize("options", [{}, {"reduce": False}, {"skip": "residual"}])
def test_every_layer_of_the_unit(options):
    module = DeFINE(500, 32, map=16, expand_dim=64, depth=3, max_groups=4, dropout=0.3, **options)
    found = layer_correlations(module)
    names = ["Map", "Expand 1", "Expand 2", "Expand 3", "Reduce"]
    assert [layer.name for layer in found] == names[: 5 - ("reduce" in options)]
    assert [layer.groups for layer in found][1:4] == [4, 2, 1]
    module.eval()
    with torch.no_grad():
        outputs = [module.map.weight, *module.expand.outputs(module.map.weight), module.weight]
    for layer, rows in zip(found, outputs, strict=False):
        tolerance = 2e-6 if layer.name.startswith("Expand") else 1e-7  # float32 inside Expand
        torch.testing.assert_close(
            layer.correlation.matrix, correlation(rows).matrix, atol=tolerance, rtol=1e-7
        )
        assert layer.between_groups.shape == (layer.groups, layer.groups)
    torch.testing.assert_close(found[-1].correlation.matrix, correlation(module).matrix)


def test_weights_reach_every_layer():
    module = DeFINE(200, 16, map=8, expand_dim=32, depth=2, max_groups=2)
    counts = torch.randint(1, 5, (200,))
    found = layer_correlations(module, counts)
    expected = correlation(module.map, counts), correlation(module, counts)
    for layer, other in zip((found[0], found[-1]), expected, strict=True):
        torch.testing.assert_close(layer.correlation.matrix, other.matrix)


def test_several_weightings_are_as_each_alone():
    module = DeFINE(200, 16, map=8, expand_dim=32, depth=2, max_groups=2)
    counts = torch.randint(0, 5, (200,))
    for together, alone in zip(layers_by(module, [None, counts]), (None, counts), strict=True):
        for found, expected in zip(together, layer_correlations(module, alone), strict=True):
            assert torch.equal(found.correlation.matrix, expected.correlation.matrix)


@pytest.mark.parametrize("zipf", [False, True])
def test_wide_layers_of_a_large_vocabulary_are_measured_over_a_sample(zipf, monkeypatch):
    module = DeFINE(9000, 8, map=4, expand_dim=16, depth=2, max_groups=2)
    counts = 1 / torch.arange(1, 9001) if zipf else None
    with torch.no_grad():  # frequent words are unlike the others
        module.map.weight[:20] *= 3
    whole = layer_correlations(module, counts)
    monkeypatch.setattr(layers, "_SAMPLE", 6000)
    found = layer_correlations(module, counts)
    for before, after in zip(whole, found, strict=True):
        same = torch.equal(before.correlation.matrix, after.correlation.matrix)
        assert same == (not before.name.startswith("Expand"))
        off = (before.correlation.matrix - after.correlation.matrix).abs().max()
        assert off < 5 / 6000**0.5  # about five deviations of a correlation over 6,000 words
    again = layer_correlations(module, counts)[1].correlation.matrix
    assert torch.equal(again, found[1].correlation.matrix)


@pytest.mark.parametrize("options", [{}, {"reduce_map": False}, {"map": nn.Embedding(50, 8, 3)}])
def test_padding(options):
    module = DeFINE(50, 16, 3, expand_dim=32, max_groups=4, **({"map": 8} | options))
    counts = torch.arange(50)
    found = layer_correlations(module, counts)[-1].correlation.matrix
    torch.testing.assert_close(found, correlation(module.weight, counts).matrix)
    projected = ProjectedEmbedding(50, 16, 3, map=8)
    found = layer_correlations(projected)[-1].correlation.matrix
    torch.testing.assert_close(found, correlation(projected.weight).matrix)


def test_the_unit_runs_once_for_all_layers_and_weightings():
    module = DeFINE(5000, 8, map=4, expand_dim=16, depth=2, max_groups=2)
    seen = []
    module.expand.linears[0].register_forward_hook(lambda _, __, rows: seen.append(len(rows)))
    counts = torch.arange(5000, 0, -1)
    layers_by(module, [None, counts])
    assert sum(seen) == 5000


def test_other_embeddings():
    projected = ProjectedEmbedding(50, 8, map=AdaptiveEmbedding(50, 4, cutoffs=[10]))
    assert [layer.name for layer in layer_correlations(projected)] == ["Map", "Projection"]
    for module in (nn.Embedding(50, 8), AdaptiveEmbedding(50, 8, cutoffs=[10]), torch.ones(3, 2)):
        assert layer_correlations(module) == ()


def test_groups_of_a_written_out_matrix():
    matrix = torch.tensor(
        [
            [1.0, -0.5, 0.1, 0.2],
            [-0.5, 1.0, -0.3, 0.0],
            [0.1, -0.3, 1.0, 0.4],
            [0.2, 0.0, 0.4, 1.0],
        ]
    )
    expected = torch.tensor([[0.5, 0.15], [0.15, 0.4]])
    torch.testing.assert_close(group_correlation(matrix, 2), expected)


def test_features_without_correlation_are_left_out():
    matrix = torch.full((4, 4), 0.5)
    matrix[3] = matrix[:, 3] = torch.nan
    found = group_correlation(matrix, 2)
    torch.testing.assert_close(found, torch.tensor([[0.5, 0.5], [0.5, torch.nan]]), equal_nan=True)
    assert group_correlation(torch.eye(3), 3).diagonal().isnan().all()  # no pairs of one


def test_groups_must_divide_the_width():
    with pytest.raises(ValueError, match="groups=3 must divide the width 4"):
        group_correlation(torch.eye(4), 3)
