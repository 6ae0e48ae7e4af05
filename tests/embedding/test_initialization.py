"""At initialization the output has the scale of a standard embedding, at every depth and width.

Layers are standardized over random inputs, so what is left are deviations of a sample of 1,024.
"""

import pytest
import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding

V = 1000
WIDTHS = (64, 256, 1024)


def unit(width, depth, *, max_groups=16, map=64, k=256, **options):
    return DeFINE(V, width, map=map, expand_dim=k, depth=depth, max_groups=max_groups, **options)


def assert_scale_is_kept(embedding, overall=(0.93, 1.07), features=(0.7, 1.4), mean=0.15):
    table = embedding.weight.detach() / embedding.std
    deviations, means = table.std(0), table.mean(0)
    assert overall[0] < table.std() < overall[1]
    assert features[0] < deviations.min() and deviations.max() < features[1]
    assert table.mean().abs() < 0.15
    assert means.square().mean().sqrt() < mean  # of each feature


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 7, 11, 15])
@pytest.mark.parametrize("width", WIDTHS)
def test_at_every_width_and_depth(width, depth):
    assert_scale_is_kept(unit(width, depth, std=1.0 if depth % 2 else 0.1))


@pytest.mark.parametrize("depth", [1, 5, 15])
@pytest.mark.parametrize("max_groups", [1, 64])
@pytest.mark.parametrize("skip", ["mix", "concatenation"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU, nn.Tanh])
@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_for_every_schedule_activation_and_normalization(depth, max_groups, skip, activation, norm):
    embedding = unit(64, depth, max_groups=max_groups, skip=skip, activation=activation, norm=norm)
    assert_scale_is_kept(embedding)


@pytest.mark.parametrize("depth", [3, 15])
@pytest.mark.parametrize("std", [1.0, 0.1])
@pytest.mark.parametrize(
    "options",
    [
        {"reduce_map": False},
        {"reduce": False, "max_groups": 4},
        {"shared": True},
        {"groups": (1, 1, 1)},
        {"groups": (16, 16, 16), "shuffle": True},
        {"map": 128, "k": 1024, "max_groups": 64},
    ],
    ids=str,
)
def test_for_every_variant_that_reads_the_map_vector(options, depth, std):
    assert_scale_is_kept(unit(256, depth, std=std, **options))


@pytest.mark.parametrize("depth", [1, 3, 15])
@pytest.mark.parametrize("max_groups", [1, 64])
@pytest.mark.parametrize("skip", ["none", "residual"])
@pytest.mark.parametrize("activation", [nn.ReLU, nn.GELU])
@pytest.mark.parametrize("norm", [None, nn.LayerNorm])
def test_without_the_map_vector_too(depth, max_groups, skip, activation, norm):
    """Nothing calls a layer back to the plan here; and a single input to each group, as at 64
    groups, makes tails so heavy that a sample tells less of them.
    """
    embedding = unit(64, depth, skip=skip, activation=activation, norm=norm, max_groups=max_groups)
    assert_scale_is_kept(embedding, (0.9, 1.5), (0.5, 3.0), mean=0.3)


@pytest.mark.parametrize("std", [1.0, 0.1])
@pytest.mark.parametrize("map", [16, 128])
def test_the_projective_embedding_keeps_the_scale_too(map, std):
    table = ProjectedEmbedding(V, 256, map=map, std=std).weight.detach() / std
    assert 0.9 < table.std() < 1.1
    assert table.mean().abs() < 0.1


def test_a_reset_keeps_the_scale_too():
    embedding = unit(64, 7, norm=nn.LayerNorm, std=0.1)
    for parameter in embedding.parameters():
        nn.init.normal_(parameter, std=3)
    embedding.reset_parameters()
    assert_scale_is_kept(embedding)


@pytest.mark.parametrize("map", [64, "adaptive", "projected"])
def test_a_reset_draws_at_the_deviation_that_the_embedding_has_by_then(map):
    """Map and unit together: a recipe sets `std` and draws anew."""
    if map == "adaptive":
        map = AdaptiveEmbedding(V, 64, cutoffs=[V // 2], div_value=2)
    if map == "projected":
        map = ProjectedEmbedding(V, 64, map=32)
    embedding = unit(64, 5, map=map)
    embedding.std = 0.05
    embedding.reset_parameters()
    assert_scale_is_kept(embedding)
    assert 0.8 < embedding.map.weight.std() / 0.05 < 1.2


def test_a_table_of_another_scale_is_taken_for_what_it_is():
    """A Map that was given and the unit above it agree on the deviation."""
    map = nn.Embedding(V, 64)
    torch.nn.init.normal_(map.weight, std=0.1)
    assert_scale_is_kept(unit(64, 7, map=map, std=0.1))
