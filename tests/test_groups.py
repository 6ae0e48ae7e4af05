"""Laws of the group transforms, in float64 and against the formulas written out."""

from math import lcm

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.autograd.functional import jacobian
from torch.testing import assert_close

from define.groups import (
    GroupLinear,
    HierarchicalGroupTransform,
    group_schedule,
    width_schedule,
)

SKIPS = ("none", "residual", "concatenation", "mix")


def randomize(module):
    """Also the biases, which are zero at first."""
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


def matrices(linear):
    """The matrix of each group."""
    return list(linear.weight.expand(linear.groups, -1, -1))


# Schedules


@given(depth=st.integers(1, 20), max_groups=st.integers(1, 300))
def test_groups_start_at_max_groups_and_halve_down_to_one(depth, max_groups):
    groups = group_schedule(depth, max_groups)
    assert len(groups) == depth
    assert groups[0] == max_groups
    for before, after in zip(groups, groups[1:], strict=False):
        assert after == max(before // 2, 1)


@given(
    in_features=st.integers(1, 200),
    more=st.integers(0, 300),
    groups=st.lists(st.integers(1, 12), min_size=1, max_size=8),
)
def test_widths_are_linear_rounded_up_to_what_both_neighbours_divide(in_features, more, groups):
    out_features = -(-(in_features + more) // groups[-1]) * groups[-1]
    widths = width_schedule(in_features, out_features, groups)
    assert len(widths) == len(groups)
    assert widths[-1] == out_features
    for layer, width in enumerate(widths[:-1], start=1):
        step = lcm(groups[layer - 1], groups[layer])
        linear = in_features + (out_features - in_features) * layer / len(groups)
        assert width % groups[layer - 1] == 0 and width % groups[layer] == 0
        assert linear - 1e-9 <= width < linear + step


@given(
    depth=st.integers(1, 15),
    groups=st.integers(1, 16),
    n=st.integers(1, 20),
    more=st.integers(0, 50),
)
def test_widths_of_one_group_count_increase_from_n_to_k(depth, groups, n, more):
    widths = width_schedule(n * groups, (n + more) * groups, (groups,) * depth)
    assert list(widths) == sorted(widths)
    assert n * groups <= widths[0] and widths[-1] == (n + more) * groups


def test_widths_of_the_paper():
    assert width_schedule(128, 1024, group_schedule(7, 8)) == (256, 384, 512, 640, 768, 896, 1024)


@pytest.mark.parametrize(("depth", "max_groups"), [(0, 4), (3, 0), (-1, 4)])
def test_a_group_schedule_without_layers_or_groups_is_refused(depth, max_groups):
    with pytest.raises(ValueError, match=f"depth={depth} and max_groups={max_groups}"):
        group_schedule(depth, max_groups)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((64, 32, (1,)), "out_features=32 must be at least in_features=64"),
        ((0, 32, (1,)), "in_features=0"),
        ((8, 32, ()), r"groups=\(\) must name at least one layer"),
        ((8, 32, (4, 0)), r"groups=\(4, 0\)"),
        ((8, 30, (8, 4)), r"groups=\(8, 4\) must divide out_features=30"),
    ],
)
def test_a_width_schedule_that_cannot_be_is_refused_with_its_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        width_schedule(*arguments)


# GroupLinear

sizes = {
    "batch": st.lists(st.integers(0, 3), max_size=3),
    "groups": st.integers(1, 4),
    "reads": st.integers(1, 3),
    "gives": st.integers(1, 3),
    "bias": st.booleans(),
    "shared": st.booleans(),
}


@given(**sizes)
def test_a_group_linear_is_a_block_diagonal_dense_layer(batch, groups, reads, gives, bias, shared):
    layer = GroupLinear(
        groups * reads, groups * gives, groups, bias=bias, shared=shared, dtype=torch.float64
    )
    randomize(layer)
    x = torch.randn(*batch, groups * reads, dtype=torch.float64, requires_grad=True)
    dense = torch.block_diag(*matrices(layer))
    expected = nn.functional.linear(x, dense, layer.bias)
    y = layer(x)
    assert_close(y, expected)
    upstream = torch.randn_like(y)
    inputs = [x, *layer.parameters()]
    assert_close(
        torch.autograd.grad(y, inputs, upstream), torch.autograd.grad(expected, inputs, upstream)
    )


@given(**sizes)
def test_outputs_depend_on_the_chunk_of_their_own_group_alone(
    batch, groups, reads, gives, bias, shared
):
    layer = GroupLinear(
        groups * reads, groups * gives, groups, bias=bias, shared=shared, dtype=torch.float64
    )
    blocks = jacobian(layer, torch.randn(groups * reads, dtype=torch.float64))
    own = torch.block_diag(*[torch.ones(gives, reads)] * groups).bool()
    assert (blocks[own] != 0).all()
    assert (blocks[~own] == 0).all()


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_one_group_is_torch_linear(bias, shared):
    layer = GroupLinear(6, 4, bias=bias, shared=shared, dtype=torch.float64)
    reference = nn.Linear(6, 4, bias=bias, dtype=torch.float64)
    layer.weight.data[0] = reference.weight.data
    if bias:
        layer.bias.data = reference.bias.data
    x = torch.randn(2, 3, 6, dtype=torch.float64)
    assert torch.equal(layer(x), reference(x))
    assert sum(p.numel() for p in layer.parameters()) == sum(
        p.numel() for p in reference.parameters()
    )


@pytest.mark.parametrize("shared", [False, True])
def test_weights_are_counted_once_per_group_or_once(shared):
    layer = GroupLinear(12, 8, groups=4, shared=shared)
    assert layer.weight.numel() == 12 * 8 // 4 // (4 if shared else 1)
    assert layer.bias.numel() == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((10, 8, 4), "groups=4 must divide in_features=10 and out_features=8"),
        ((8, 10, 4), "groups=4 must divide in_features=8 and out_features=10"),
        ((0, 8, 1), "in_features=0"),
        ((8, 0, 1), "out_features=0"),
        ((8, 8, 0), "groups=0"),
    ],
)
def test_groups_that_do_not_divide_are_refused_with_their_values(arguments, message):
    with pytest.raises(ValueError, match=message):
        GroupLinear(*arguments)


@pytest.mark.parametrize("groups", [1, 2])
def test_an_input_of_another_width_is_refused(groups):
    with pytest.raises(ValueError, match=r"\(3, 6\) must be in_features=4"):
        GroupLinear(4, 4, groups)(torch.randn(3, 6))


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("groups", [1, 4])
def test_standardized_outputs_have_mean_zero_and_the_wanted_deviation(groups, shared):
    layer = GroupLinear(256, 512, groups, shared=shared, dtype=torch.float64)
    mean, deviation = torch.randn(256), 0.5 + torch.rand(256)
    inputs = (mean + deviation * torch.randn(500, 256)).double()
    layer.standardize_parameters(inputs, std=0.3)
    y = layer(inputs)
    assert y.mean(0).abs().max() < 1e-6
    if shared:  # one matrix: on average over the groups
        y = y.view(500, groups, -1).var(0).mean(0, keepdim=True).sqrt()
    else:
        y = y.std(0)
    assert y.detach().numpy() == pytest.approx(0.3, abs=1e-5)


def test_without_bias_the_deviation_is_standardized_and_the_mean_stays():
    layer = GroupLinear(16, 8, 2, bias=False, dtype=torch.float64)
    inputs = 1 + torch.randn(500, 16, dtype=torch.float64)
    layer.standardize_parameters(inputs, std=2.0)
    y = layer(inputs)
    assert y.std(0).detach().numpy() == pytest.approx(2, abs=1e-5)
    assert y.mean(0).abs().max() > 0.1


def test_a_dead_input_leaves_parameters_finite():
    layer = GroupLinear(4, 4)
    layer.standardize_parameters(torch.zeros(10, 4), std=1.0)
    assert all(torch.isfinite(p).all() for p in layer.parameters())


# HierarchicalGroupTransform


def written_out(transform, x):
    """One vector through the layers, chunk by chunk (METHOD.md, section 2)."""
    x = list(x)
    y = x
    for layer, (linear, ending) in enumerate(
        zip(transform.linears, transform.endings, strict=True)
    ):
        g, reads = linear.groups, list(y)
        if layer and transform.shuffle:
            chunks = transform.linears[layer - 1].groups
            size = len(reads) // chunks
            reads = [reads[j * size + i] for i in range(size) for j in range(chunks)]
        if layer and transform.skip == "concatenation":
            reads = reads + x
        if layer and transform.skip == "mix":
            a, b = len(reads) // g, len(x) // g
            reads = [
                feature
                for j in range(g)
                for feature in reads[j * a : (j + 1) * a] + x[j * b : (j + 1) * b]
            ]
        size = len(reads) // g
        out = torch.cat(
            [
                matrix @ torch.stack(reads[j * size : (j + 1) * size])
                for j, matrix in enumerate(matrices(linear))
            ]
        )
        out = ending(out + linear.bias)
        if layer and transform.skip == "residual":
            out = out + torch.stack(y)
        y = list(out)
    return torch.stack(y)


@given(
    skip=st.sampled_from(SKIPS),
    shuffle=st.booleans(),
    shared=st.booleans(),
    norm=st.sampled_from([None, nn.LayerNorm]),
    activate_last=st.booleans(),
    groups=st.lists(st.sampled_from([1, 2, 4]), min_size=1, max_size=4),
)
def test_a_transform_is_its_layers_written_out(skip, shuffle, shared, norm, activate_last, groups):
    widths = (16,) * len(groups) if skip == "residual" else width_schedule(8, 16, groups)
    transform = HierarchicalGroupTransform(
        8,
        widths,
        groups,
        skip=skip,
        shuffle=shuffle,
        shared=shared,
        norm=norm,
        activation=nn.Tanh,
        activate_last=activate_last,
        dtype=torch.float64,
    )
    randomize(transform)
    x = torch.randn(2, 8, dtype=torch.float64)
    y = transform(x)
    assert_close(y, torch.stack([written_out(transform, row) for row in x]))
    assert y.shape == (2, widths[-1])


def test_mixed_chunks_stand_side_by_side():
    """Fig. 3: chunk j of the previous output, then chunk j of the Map vector."""
    transform = HierarchicalGroupTransform(4, (8, 8), (1, 2), dtype=torch.float64)
    y = torch.arange(8, dtype=torch.float64)
    x = torch.arange(100, 104, dtype=torch.float64)
    assert transform._join(1, y, x).tolist() == [0, 1, 2, 3, 100, 101, 4, 5, 6, 7, 102, 103]


def test_shuffling_interleaves_the_groups_of_the_layer_before():
    transform = HierarchicalGroupTransform(6, (6, 6), (3, 2), skip="none", shuffle=True)
    y = torch.arange(6.0)
    assert transform._join(1, y, y).tolist() == [0, 2, 4, 1, 3, 5]


@pytest.mark.parametrize("skip", SKIPS)
def test_every_layer_has_the_weights_of_the_formula(skip):
    """(d_{l-1} + n) d_l / g_l with a skip that reads the Map vector, d_{l-1} d_l / g_l without."""
    n, groups = 8, (4, 2, 1)
    widths = (16, 16, 16) if skip == "residual" else width_schedule(n, 32, groups)
    transform = HierarchicalGroupTransform(n, widths, groups, skip=skip)
    for layer, (linear, width, g) in enumerate(zip(transform.linears, widths, groups, strict=True)):
        reads = n if layer == 0 else widths[layer - 1]
        if layer and skip in ("concatenation", "mix"):
            reads += n
        assert linear.weight.numel() == reads * width // g


def test_drawing_parameters_leaves_each_part_in_its_mode():
    transform = HierarchicalGroupTransform(8, (16, 16), (2, 1), dropout=0.5)
    transform.endings[0].eval()
    modes = [part.training for part in transform.modules()]
    transform.reset_parameters()
    assert [part.training for part in transform.modules()] == modes


def test_the_iterated_outputs_end_in_the_output():
    transform = HierarchicalGroupTransform(8, (16, 16), (2, 1))
    x = torch.randn(3, 8)
    layers = list(transform.outputs(x))
    assert [y.shape[-1] for y in layers] == [16, 16]
    assert torch.equal(layers[-1], transform(x))


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((8, (16,), (1,)), {"skip": "dense"}, "skip='dense' must be one of"),
        ((8, (16,), (1, 1)), {}, r"widths=\(16,\) and groups=\(1, 1\)"),
        ((8, (), ()), {}, r"widths=\(\)"),
        ((8, (16, 24), (1, 1)), {"skip": "residual"}, r"not widths=\(16, 24\)"),
        ((6, (12, 12), (2, 4)), {}, r"groups=\(2, 4\) must divide in_features=6"),
        ((8, (16,), (0,)), {}, r"groups=\(0,\) must be at least 1"),
        ((8, (15,), (2,)), {}, "groups=2 must divide in_features=8 and out_features=15"),
    ],
)
def test_a_transform_that_cannot_be_is_refused_with_its_values(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        HierarchicalGroupTransform(*arguments, **options)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": nn.Tanh()}, r"activation=Tanh\(\) must make one for each layer: Tanh"),
        ({"norm": nn.LayerNorm(8)}, r"norm=LayerNorm.* must make one for each layer: LayerNorm"),
    ],
)
def test_a_module_where_one_for_each_layer_is_made_is_refused(options, message):
    with pytest.raises(TypeError, match=message):
        HierarchicalGroupTransform(8, (8,), (1,), **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("device", [None, "meta"])
def test_an_activation_may_have_parameters(dtype, device):
    transform = HierarchicalGroupTransform(
        8, (16,), (1,), activation=nn.PReLU, device=device, dtype=dtype
    )
    assert {p.dtype for p in transform.parameters()} == {dtype}
    with torch.device("meta"):
        planned = HierarchicalGroupTransform(8, (16,), (1,), activation=nn.PReLU)
    assert all(p.is_meta for p in planned.parameters())
