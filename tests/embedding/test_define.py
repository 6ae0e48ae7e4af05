"""Laws of DeFINE: Map, Expand, Reduce."""

import re
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.testing import assert_close

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.groups import group_schedule

SMALL = {"map": 8, "expand_dim": 32, "depth": 2, "max_groups": 4, "dtype": torch.float64}


def randomize(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    return module


variants = {
    "skip": st.sampled_from(["none", "residual", "concatenation", "mix"]),
    "reduce": st.booleans(),
    "reduce_map": st.booleans(),
    "shared": st.booleans(),
    "norm": st.sampled_from([None, nn.LayerNorm]),
    "padding_idx": st.none() | st.integers(0, 19),
}


@given(**variants, ids=st.lists(st.integers(0, 19), min_size=1, max_size=12))
def test_one_pass_over_distinct_ids_is_a_pass_over_every_token(padding_idx, ids, **options):
    """Values and gradients."""
    embedding = randomize(DeFINE(20, 16, padding_idx, **SMALL, **options))
    rows = embedding(torch.tensor(ids))
    tokens = [embedding.rows(torch.tensor([i])) * (i != padding_idx) for i in ids]
    expected = torch.cat(tokens)
    assert_close(rows, expected)
    upstream = torch.randn_like(rows)
    parameters = list(embedding.parameters())
    # The Map's own padding has no gradient either way.
    assert_close(
        torch.autograd.grad(rows, parameters, upstream),
        torch.autograd.grad(expected, parameters, upstream),
    )


def test_the_unit_sees_each_distinct_id_once():
    embedding = DeFINE(20, 16, **SMALL)
    seen = []
    embedding.expand.register_forward_hook(lambda module, inputs, y: seen.append(len(y)))
    embedding(torch.tensor([[4, 9, 4, 4], [9, 4, 2, 9]]))
    assert seen == [3]


def test_many_rows_are_those_of_one_pass():
    """Values, gradients and draws, above the number of rows that are computed at a time."""
    ids = torch.arange(2500)
    for dropout in (0.0, 0.5):
        embedding = randomize(DeFINE(2500, 16, **SMALL, dropout=dropout))
        torch.manual_seed(0)
        rows = embedding.rows(ids)
        torch.manual_seed(0)
        expected = embedding.from_map(embedding.map(ids))
        assert_close(rows, expected)
        upstream = torch.randn_like(rows)
        parameters = list(embedding.parameters())
        assert_close(
            torch.autograd.grad(rows, parameters, upstream),
            torch.autograd.grad(expected, parameters, upstream),
        )


def test_a_hook_within_sees_all_rows():
    embedding = DeFINE(2500, 16, **SMALL)
    seen = []
    embedding.expand.register_forward_hook(lambda module, inputs, y: seen.append(len(y)))
    embedding(torch.arange(2500))
    assert seen == [2500]


def test_the_unit_is_map_expand_reduce():
    embedding = randomize(DeFINE(20, 16, **SMALL))
    e_i = embedding.map.weight
    e_o = torch.cat([embedding.expand(e_i), e_i], -1) @ embedding.reduce.weight[0].mT
    assert_close(embedding.weight, e_o + embedding.reduce.bias)


@given(bias=st.booleans())
def test_a_linear_factorization_is_a_special_case(bias):
    """Through the path from the Map to Reduce."""
    linear = randomize(ProjectedEmbedding(20, 16, map=8, bias=bias, dtype=torch.float64))
    embedding = randomize(DeFINE(20, 16, **SMALL))
    with torch.no_grad():
        embedding.map.weight.copy_(linear.map.weight)
        embedding.reduce.weight.zero_()
        embedding.reduce.weight[0, :, 32:] = linear.projection.weight[0]
        embedding.reduce.bias.copy_(linear.projection.bias if bias else torch.zeros(16))
    assert_close(embedding.weight, linear.weight)


def test_without_reduce_expand_ends_at_the_width_asked_for_with_a_linear_layer():
    embedding = DeFINE(500, 16, reduce=False, **SMALL)
    assert embedding.reduce is None and embedding.expand.widths[-1] == 16
    assert (embedding.weight < 0).any()  # no activation cuts it


def test_expand_has_the_schedules_asked_for():
    embedding = DeFINE(20, 400, map=128, expand_dim=1024, depth=7, max_groups=8)
    assert embedding.expand.groups == (8, 4, 2, 1, 1, 1, 1)
    assert embedding.expand.widths == (256, 384, 512, 640, 768, 896, 1024)
    stack = DeFINE(20, 16, map=8, expand_dim=32, groups=(1, 1), depth=7, max_groups=3)
    assert stack.expand.groups == (1, 1)
    residual = DeFINE(20, 16, map=8, expand_dim=32, depth=2, max_groups=4, skip="residual")
    assert residual.expand.widths == (16, 16)  # all of width k / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"map": 64}, "out_features=32 must be at least in_features=64"),
        ({"map": 6}, r"\(4, 2\), must each divide .* map=6"),
        ({"expand_dim": 33}, r"groups=\(4, 2\) must divide out_features=33"),
        ({"depth": 0}, "depth=0"),
        ({"max_groups": 0}, "max_groups=0"),
        ({"groups": ()}, r"groups=\(\)"),
        ({"map": nn.Embedding(21, 8)}, "map.num_embeddings=21 must equal num_embeddings=20"),
        ({"map": 0}, "map=0"),
        ({"std": -1.0}, "std=-1.0"),
        ({"std": float("nan")}, "std=nan"),
        ({"norm": nn.BatchNorm1d}, r"BatchNorm1d\(.* joins rows.* torch.nn.LayerNorm"),
        ({"norm": nn.InstanceNorm1d}, r"InstanceNorm1d\(.* joins rows"),
        ({"activation": lambda: nn.Sequential(nn.LazyBatchNorm1d(), nn.ReLU())}, "BatchNorm"),
    ],
)
def test_a_unit_that_cannot_be_is_refused_with_its_values(options, message):
    with pytest.raises(ValueError, match=message):
        DeFINE(20, 16, **SMALL | options)


@given(map=st.integers(1, 300), max_groups=st.integers(1, 40), depth=st.integers(1, 5))
def test_groups_that_do_not_fit_name_what_would(map, max_groups, depth):
    def make(**options):
        options = {"map": map, "max_groups": max_groups, "depth": depth} | options
        return DeFINE(5, 16, expand_dim=960, device="meta", **options)

    if all(map % g == 0 for g in group_schedule(depth, max_groups)):
        return
    with pytest.raises(ValueError, match=f"must each divide the width of the Map, map={map};") as e:
        make()
    named = re.findall(r"(map|max_groups)=(\d+)", str(e.value).partition(";")[2])
    assert len(named) >= 2
    for name, value in named:
        try:
            make(**{name: int(value)})
        except ValueError as error:  # of another kind
            assert "must each divide" not in str(error)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"activation": "relu"}, "activation='relu' must be a class or function .* torch.nn.GELU"),
        ({"norm": "layer"}, "norm='layer' must be a class or function .* torch.nn.LayerNorm"),
        ({"map": "16"}, "map='16' must be a width"),
        ({"map": True}, "map=True must be a width"),
        ({"map": lambda v, n: "16"}, "map='16' must be a width"),
    ],
)
def test_what_is_of_another_kind_is_refused_in_our_words(options, message):
    with pytest.raises(TypeError, match=message):
        DeFINE(20, 16, **SMALL | options)


def test_sparse_gradients_are_the_dense_ones():
    dense, sparse = DeFINE(20, 16, **SMALL), DeFINE(20, 16, sparse=True, **SMALL)
    sparse.load_state_dict(dense.state_dict())
    for embedding in (dense, sparse):
        embedding(torch.tensor([3, 7, 7])).square().sum().backward()
    assert sparse.map.weight.grad.is_sparse
    assert_close(sparse.map.weight.grad.to_dense(), dense.map.weight.grad)


@pytest.mark.parametrize("std", [None, 0.5])
def test_a_given_map_is_used_as_it_is(std):
    map = AdaptiveEmbedding(20, 8, cutoffs=[5], div_value=2, std=0.25)
    drawn = map.weight.clone()
    embedding = DeFINE(20, 16, map=map, expand_dim=32, depth=2, max_groups=4, std=std)
    assert embedding.map is map
    assert torch.equal(map.weight, drawn)
    assert embedding.std == (0.25 if std is None else std)


NORMS = pytest.mark.parametrize("norm", [None, nn.LayerNorm])


@NORMS
@given(max_groups=st.sampled_from([1, 2, 8]), depth=st.integers(1, 3), std=st.floats(0.01, 3.0))
def test_a_unit_that_starts_as_the_identity_is_its_map(norm, max_groups, depth, std):
    embedding = DeFINE(
        30, 8, map=8, expand_dim=32, depth=depth, max_groups=max_groups, std=std,
        start="identity", norm=norm, dtype=torch.float64,
    )  # fmt: skip
    assert_close(embedding.whole_table(), embedding.map.weight)
    embedding.reset_parameters()
    assert_close(embedding.whole_table(), embedding.map.weight)


@NORMS
def test_a_unit_that_starts_as_a_projection_keeps_the_scale(norm):
    embedding = DeFINE(4000, 48, map=32, expand_dim=64, start="projection", norm=norm, std=0.1)
    path = embedding.reduce.weight[0, :, -32:]
    assert_close(embedding.weight, embedding.map.weight @ path.mT)
    assert float(embedding.weight.detach().std()) == pytest.approx(0.1, rel=0.1)


@NORMS
@pytest.mark.parametrize("start", ["identity", "projection"])
def test_all_of_a_unit_is_trained_from_a_start_without_it(norm, start):
    embedding = DeFINE(30, 8, **SMALL, start=start, norm=norm)
    before = {name: p.detach().clone() for name, p in embedding.named_parameters()}
    optimizer = torch.optim.Adam(embedding.parameters(), lr=0.01)
    for _ in range(3):
        optimizer.zero_grad()
        (embedding.whole_table() - 1).square().sum().backward()
        optimizer.step()
    for name, parameter in embedding.named_parameters():
        assert not torch.equal(parameter, before[name]), name


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": "zero"}, "start='zero' must be one of"),
        ({"start": "identity"}, "embedding_dim=16 to equal map=8"),
        ({"start": "projection", "reduce": False}, "reduce=False"),
        ({"start": "projection", "reduce_map": False}, "reduce_map=False"),
    ],
)
def test_a_start_that_cannot_be_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        DeFINE(20, 16, **SMALL | options)


@pytest.mark.parametrize("make", [DeFINE, ProjectedEmbedding])
def test_a_map_that_is_made_has_the_type_and_device_of_the_embedding(make):
    map = partial(AdaptiveEmbedding, cutoffs=[10, 30])
    embedding = make(50, 16, map=map, dtype=torch.float64)
    assert embedding(torch.arange(50)).dtype == torch.float64
    assert all(p.is_meta for p in make(50, 16, map=map, device="meta").parameters())
