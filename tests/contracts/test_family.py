"""What every embedding says of itself: how it is rebuilt, grows, starts, and what is its unit."""

import json

import pytest
import torch
from laws import randomize
from makers import EMBEDDINGS, OURS, M, V, adaptive, define
from torch import nn
from torch.testing import assert_close

from define import (
    AdaptiveSoftmax,
    DeFINE,
    Embedding,
    HashEmbedding,
    ProjectedEmbedding,
    RoundedEmbedding,
    TiedSoftmax,
    fit_embedding,
    parameter_groups,
)
from define.embedding import (
    arguments,
    bands,
    resize,
    row_cost,
    set_rows,
    tied_table,
    unit_parameters,
    whole_table,
)
from define.embedding.description import build, describe

embeddings = pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)
our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)
LIKE = {"dtype": torch.float64}


@embeddings
def test_its_arguments_rebuild_it(make):
    embedding = randomize(make(V, M, padding_idx=3))
    other = type(embedding)(**arguments(embedding))
    other.load_state_dict(embedding.state_dict())
    assert torch.equal(other.weight, embedding.weight) and repr(other) == repr(embedding)
    described = build(json.loads(json.dumps(describe(embedding))))
    described.load_state_dict(embedding.state_dict())
    assert torch.equal(described.weight, embedding.weight)


@embeddings
@pytest.mark.parametrize("mean", [False, True])
def test_it_grows_and_shrinks_and_keeps_its_rows(make, mean):
    embedding = randomize(make(V, M, padding_idx=3))
    before = embedding.weight.detach().clone()
    resize(embedding, V + 7, mean)
    assert embedding.num_embeddings == V + 7 and embedding.weight.shape == (V + 7, M)
    assert_close(embedding.weight[:V], before)
    assert embedding(torch.tensor([V + 6])).isfinite().all()
    resize(embedding, V - 4)
    assert_close(embedding.weight[:], before[: V - 4])
    assert repr(embedding).startswith(f"{type(embedding).__name__}(") and f"{V - 4}" in repr(
        embedding
    )
    for size in (0, 3):
        with pytest.raises(ValueError, match=f"num_embeddings={size}"):
            resize(embedding, size)


@embeddings
def test_it_starts_from_a_trained_table(make):
    table = torch.randn(V, M, **LIKE)
    options = arguments(make(V, M, **LIKE))
    for name in ("num_embeddings", "embedding_dim", "padding_idx"):
        del options[name]
    cls = type(make(V, M))
    if cls is nn.Embedding:
        options = {}
    embedding = cls.from_pretrained(table, padding_idx=4, **options)
    assert embedding.weight.dtype == table.dtype
    if cls is not nn.Embedding:
        assert not embedding.weight[4].any()
    if getattr(embedding, "reduce", embedding) is None:
        return  # without Reduce only the Map is set
    # Rows of Gaussian noise: what is left of them must be better than nothing.
    keep = torch.arange(V) != 4
    assert (embedding.weight - table)[keep].square().sum() < table[keep].square().sum()
    if cls is not nn.Embedding:
        low = cls.from_pretrained(table.bfloat16(), padding_idx=4, **describe_free(options))
        assert low.weight.dtype == torch.bfloat16


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("cls", [DeFINE, ProjectedEmbedding])
def test_what_is_no_table_is_nothing_to_start_from(cls):
    with pytest.raises(ValueError, match=r"embeddings \(16,\) must be a table"):
        cls.from_pretrained(torch.randn(M), map=8)


def describe_free(options):
    """The same arguments without modules, which are taken over and changed."""
    return {k: v if not isinstance(v, nn.Module) else rebuilt(v) for k, v in options.items()}


def rebuilt(module):
    return type(module)(**arguments(module))


@embeddings
def test_it_is_fitted_to_a_table(make):
    table = torch.randn(V, M, **LIKE)
    table[:, M // 2 :] *= 0.1
    embedding = make(V, M, **LIKE)
    fit = fit_embedding(table, embedding, rounds=6)
    error = (embedding.weight.detach() - table).square().sum() / table.square().sum()
    assert fit.error == pytest.approx(float(error)) and fit.error <= fit.start
    assert fit.error < (0.95 if getattr(embedding, "reduce", embedding) is not None else fit.start)


@embeddings
def test_rows_are_set_to_what_it_can_stand_for(make):
    embedding, other = (randomize(make(V, M, padding_idx=3, **LIKE)) for _ in range(2))
    other.load_state_dict(embedding.state_dict())
    ids = torch.tensor([58, 0, 12, 31])
    with torch.no_grad():  # rows that it can stand for: those that it had with another Map
        for name, parameter in other.named_parameters():
            if name in {n for n, _ in looked_up(other)}:
                parameter.normal_(std=0.5)
    wanted, before = other.weight.detach()[ids], embedding.weight.detach().clone()
    training = [module.training for module in embedding.modules()]
    ours = isinstance(embedding, Embedding)
    if (
        ours and type(embedding).set_own_rows is Embedding.set_own_rows
    ):  # nothing belongs to single words
        with pytest.raises(TypeError, match="cannot set rows"):
            set_rows(embedding, ids, wanted)
        return
    if isinstance(embedding, HashEmbedding) and not embedding.importance:
        with pytest.raises(TypeError, match="importance=False"):
            set_rows(embedding, ids, wanted)
        return
    error = set_rows(embedding, ids, wanted)
    got = embedding.weight.detach()
    expected = (got[ids] - wanted).norm(dim=1) / wanted.norm(dim=1)
    assert_close(error, expected, atol=1e-12, rtol=1e-6)
    others = torch.ones(V, dtype=torch.bool).index_fill(0, ids, False)
    assert torch.equal(got[others], before[others])
    assert [module.training for module in embedding.modules()] == training
    if isinstance(embedding, RoundedEmbedding):
        assert error.isfinite().all()  # as good as its bits are
    elif "GELU" not in repr(embedding):  # a nearest point is found where a formula gives it
        assert error.max() < 1e-6
    else:
        assert error.mean() < 0.5 * ((before[ids] - wanted).norm(dim=1) / wanted.norm(dim=1)).mean()


def looked_up(embedding):
    unit = set(unit_parameters(embedding))
    names = [(n, p) for n, p in embedding.named_parameters() if p not in unit]
    if isinstance(embedding, HashEmbedding):
        return [(n, p) for n, p in names if "importances" in n]
    return [(n, p) for n, p in names if "projections" not in n]


@embeddings
def test_rows_that_cannot_be_set_are_named(make):
    embedding = make(V, M, padding_idx=3)
    row = torch.ones(1, M)
    for ids, error, message in (
        ([3], ValueError, "id 3 is that of the padding"),
        ([V], IndexError, f"id {V} is not within num_embeddings={V}"),
        ([-1], IndexError, "id -1 is not within"),
    ):
        with pytest.raises(error, match=message):
            set_rows(embedding, torch.tensor(ids), row)
    with pytest.raises(ValueError, match=r"ids must be different, not \[5, 5\]"):
        set_rows(embedding, torch.tensor([5, 5]), row.expand(2, -1))
    with pytest.raises(ValueError, match=r"rows \(1, 17\) must be .*embedding_dim=16"):
        set_rows(embedding, torch.tensor([5]), torch.ones(1, M + 1))
    before = embedding.state_dict()
    before = {name: tensor.clone() for name, tensor in before.items()}
    for value in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="row for id 6 is not finite"):
            set_rows(embedding, torch.tensor([5, 6]), torch.stack([row[0], row[0] * value]))
    with pytest.raises(TypeError, match=r"ids must be a tensor .* not torch\.int8"):
        set_rows(embedding, torch.tensor([5], dtype=torch.int8), row)
    assert all(torch.equal(tensor, before[name]) for name, tensor in embedding.state_dict().items())


@embeddings
def test_its_unit_is_what_all_words_share(make):
    embedding = make(V, M)
    unit = unit_parameters(nn.ModuleList([embedding, embedding]))
    assert len({id(p) for p in unit}) == len(unit)
    if "adaptive" not in type(embedding).__name__.lower() and type(embedding) is not nn.Embedding:
        if hasattr(embedding, "map"):
            assert unit and all(p.shape[0] != V for p in unit)
    table = tied_table(embedding)
    own = {id(p) for p in unit} - {id(p) for p in unit_parameters(table)}
    assert own.isdisjoint({id(p) for p in table.parameters()})
    assert row_cost(embedding) >= 0 and (row_cost(embedding) > 0) >= bool(unit)


@embeddings
def test_groups_give_the_unit_a_rate_of_its_own(make):
    model = nn.Sequential(make(V, M), nn.Linear(M, 3))
    groups = parameter_groups(model, lr=0.5, unit_rate=0.1, weight_decay=0.2, unit_weight_decay=0)
    unit = {id(p) for p in unit_parameters(model)}
    seen = [id(p) for group in groups for p in group["params"]]
    assert sorted(seen) == sorted(id(p) for p in model.parameters())
    for group in groups:
        inside = {id(p) in unit for p in group["params"]}
        assert inside == {group["lr"] == pytest.approx(0.05)}
        assert group["weight_decay"] == (0 if inside == {True} else 0.2)
    torch.optim.AdamW(groups).step()
    assert len(parameter_groups(model, lr=0.5, unit_rate=1.0)) == 1
    for wrong in ({"lr": 0.0}, {"unit_rate": -1.0}, {"weight_decay": -0.1}):
        with pytest.raises(
            ValueError, match=rf"{next(iter(wrong))}=.*{next(iter(wrong.values()))}"
        ):
            parameter_groups(model, **({"lr": 0.5} | wrong))


@our_embeddings
def test_bands_are_the_table(make):
    embedding = randomize(make(V, M, padding_idx=3))
    parts = bands(tied_table(embedding)) or ()
    rows = [b.table if b.projection is None else b.table @ b.projection.mT for b in parts]
    if rows:
        assert_close(torch.cat(rows), whole_table(tied_table(embedding)))
        assert [b.start for b in parts] == [0, *(b.stop for b in parts[:-1])]


@our_embeddings
def test_layers_lead_from_the_map_to_the_rows(make):
    embedding = randomize(make(V, M, padding_idx=3)).eval()
    layers, ids = embedding.layers(), torch.arange(V)
    outputs = list(embedding.layer_outputs(ids))
    assert [y.shape for y in outputs] == [(V, layer.width) for layer in layers]
    assert all(layer.width % layer.groups == 0 for layer in layers)
    if layers:
        assert_close(outputs[0], whole_table(embedding.tied_table()))
        assert_close(outputs[-1], embedding.weight)
    assert bool(layers) == hasattr(embedding, "map")


def test_a_padding_row_is_zero_for_the_output_too():
    """Whatever the stored table of an adaptive embedding has there, and with no gradient."""
    for make_head in (AdaptiveSoftmax, TiedSoftmax):
        embedding = randomize(adaptive(V, M, padding_idx=3))
        head = make_head(embedding)
        hidden = torch.randn(5, M)
        before = head.log_prob(hidden)
        head(hidden, torch.tensor([2, 3, 4, 30, 50])).sum().backward()
        assert not embedding.tables[0].grad[3].any()
        assert embedding.tables[0].grad[2].any()
        with torch.no_grad():
            embedding.tables[0][3] = 100.0
        assert torch.equal(head.log_prob(hidden), before)


def test_one_row_of_a_unit_is_found_from_far_away():
    """A row of another word, exactly: the search ends in it, not at the nearest bend."""
    embedding = define(V, M, **LIKE)
    error = embedding.set_rows(torch.tensor([7]), embedding.weight[[40]])
    assert float(error) < 1e-6
    assert_close(embedding.map.weight[7], embedding.map.weight[40], atol=1e-5, rtol=1e-5)
