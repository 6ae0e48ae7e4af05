import pytest
import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.analysis import correlation, group_correlation, layer_correlations


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
        torch.testing.assert_close(layer.correlation.matrix, correlation(rows).matrix)
        assert layer.between_groups.shape == (layer.groups, layer.groups)
    torch.testing.assert_close(found[-1].correlation.matrix, correlation(module).matrix)


def test_weights_reach_every_layer():
    module = DeFINE(200, 16, map=8, expand_dim=32, depth=2, max_groups=2)
    counts = torch.randint(1, 5, (200,))
    found = layer_correlations(module, counts)
    expected = correlation(module.map, counts), correlation(module, counts)
    for layer, other in zip((found[0], found[-1]), expected, strict=True):
        torch.testing.assert_close(layer.correlation.matrix, other.matrix)


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
