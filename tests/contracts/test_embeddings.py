"""What every embedding keeps, whatever it is made of."""

import copy
import pickle
from functools import partial

import numpy as np
import pytest
import torch
from laws import assert_every_parameter_is_reached, assert_state_round_trip, randomize
from makers import EMBEDDINGS, OURS, M, V, adaptive, define
from torch import nn
from torch.testing import assert_close

from define import DeFINE, ProjectedEmbedding
from define.embedding import RoundedEmbedding

embeddings = pytest.mark.parametrize("make", EMBEDDINGS.values(), ids=EMBEDDINGS)
our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)


@embeddings
@pytest.mark.parametrize("shape", [(), (1,), (3,), (0,), (2, 0), (2, 3, 4)])
def test_ids_of_any_shape_become_rows_of_the_table(make, shape):
    embedding = randomize(make(V, M, dtype=torch.float64))
    ids = torch.randint(V, shape)
    rows = embedding(ids)
    assert rows.shape == (*shape, M)
    assert embedding.weight.shape == (V, M)
    assert_close(rows, embedding.weight[ids])


@embeddings
def test_equal_ids_have_equal_rows_and_others_do_not(make):
    embedding = randomize(make(V, M))
    rows = embedding(torch.tensor([7, 40, 7, 12, 40]))
    assert torch.equal(rows[0], rows[2]) and torch.equal(rows[1], rows[4])
    assert not torch.equal(rows[0], rows[1])


@our_embeddings
def test_the_table_is_a_plain_embedding_once_trained(make):
    embedding = randomize(make(V, M, padding_idx=5))
    with torch.autocast("cpu", torch.bfloat16):
        table = embedding.to_embedding()
    assert type(table) is nn.Embedding
    assert (table.num_embeddings, table.embedding_dim, table.padding_idx) == (V, M, 5)
    assert table.weight.requires_grad and table.weight.is_leaf
    ids = torch.arange(V)
    assert_close(table(ids), embedding(ids))


@embeddings
def test_int32_ids_are_int64_ids(make):
    embedding = randomize(make(V, M))
    ids = torch.randint(V, (3, 4))
    assert torch.equal(embedding(ids.int()), embedding(ids))


@embeddings
@pytest.mark.parametrize("padding_idx", [0, 5, 30, V - 1, -1, -V])
def test_padding_is_zero_and_never_trained(make, padding_idx):
    embedding = make(V, M, padding_idx=padding_idx)
    padding = padding_idx % V
    assert embedding.padding_idx == padding
    ids = torch.tensor([padding, 3, padding, 40])
    assert not embedding(ids)[[0, 2]].any() and embedding(ids)[[1, 3]].any(-1).all()
    assert not embedding.weight[padding].any()
    embedding(ids[[0, 2]]).sum().backward()
    for name, parameter in embedding.named_parameters():
        assert parameter.grad is None or not parameter.grad.any(), name


@our_embeddings
@pytest.mark.parametrize("id_", [-1, V, 10**9])
def test_an_id_out_of_range_is_named(make, id_):
    with pytest.raises(IndexError, match=f"id {id_} is not within num_embeddings={V}"):
        make(V, M)(torch.tensor([[3, id_, 5]]))


@pytest.mark.usefixtures("unchecked")
@our_embeddings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_ids_of_a_wrong_dtype_are_refused(make, dtype):
    with pytest.raises(TypeError, match=f"int64 or int32, not {dtype}"):
        make(V, M)(torch.zeros(3, dtype=dtype))


@pytest.mark.usefixtures("unchecked")
@our_embeddings
@pytest.mark.parametrize("ids", [[1, 2], 3, None])
def test_what_is_no_tensor_is_refused(make, ids):
    with pytest.raises(TypeError, match=f"ids must be a tensor .* not {type(ids).__name__}"):
        make(V, M)(ids)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("make", [define, RoundedEmbedding, partial(ProjectedEmbedding, map=8)])
def test_sizes_may_be_integers_of_another_library_but_nothing_else(make):
    embedding = make(np.int64(V), np.int64(M), padding_idx=np.int64(3))
    assert type(embedding.num_embeddings) is int and type(embedding.padding_idx) is int
    assert embedding.weight.shape == (V, M)
    for wrong in ("60", 60.0):
        with pytest.raises(TypeError, match=f"embedding_dim={wrong!r} must be .*integer"):
            make(V, wrong)


@pytest.mark.parametrize("make", [make for name, make in OURS.items() if "of" not in name])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, M), "num_embeddings=0"),
        ((-3, M), "num_embeddings=-3"),
        ((V, 0), "(embedding_dim|out_features)=0"),
    ],
)
def test_an_empty_vocabulary_or_width_is_refused_with_its_value(make, arguments, message):
    with pytest.raises(ValueError, match=message):
        make(*arguments)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("make", [DeFINE, ProjectedEmbedding])
def test_a_map_that_is_no_embedding_is_refused(make):
    with pytest.raises(TypeError, match=r"map=Linear.* must be an embedding"):
        make(V, M, map=nn.Linear(3, 4))


@pytest.mark.parametrize("make", [DeFINE, ProjectedEmbedding])
def test_a_map_is_made_from_vocabulary_and_width(make):
    torch.manual_seed(0)
    made = make(V, M, map=adaptive)
    torch.manual_seed(0)
    given = make(V, M, map=adaptive(V, M))
    assert_close(made.state_dict(), given.state_dict(), rtol=0, atol=0)


@our_embeddings
@pytest.mark.parametrize("padding_idx", [V, -V - 1])
def test_padding_out_of_range_is_refused_with_both_values(make, padding_idx):
    with pytest.raises(ValueError, match=f"{padding_idx=} must be within num_embeddings={V}"):
        make(V, M, padding_idx)


@embeddings
def test_an_embedding_copies_pickles_and_has_a_repr(make):
    embedding = randomize(make(V, M, padding_idx=2))
    ids = torch.arange(V)
    for other in (copy.deepcopy(embedding), pickle.loads(pickle.dumps(embedding))):
        assert torch.equal(other(ids), embedding(ids))
        randomize(other)
        assert not torch.equal(other(ids), embedding(ids))
    start = f"{type(embedding).__name__}("
    assert repr(embedding).startswith(start)
    assert f"{V}, {M}, padding_idx=2" in repr(embedding)


@embeddings
def test_the_state_of_an_embedding_comes_back(make):
    module, other = assert_state_round_trip(lambda: make(V, M))
    assert torch.equal(module.weight, other.weight)


@embeddings
def test_an_embedding_can_be_planned_on_the_meta_device(make):
    real = {name: (p.shape, p.dtype) for name, p in make(V, M).named_parameters()}
    with torch.device("meta"):
        inherited = make(V, M)
    for planned in (make(V, M, device="meta"), inherited):
        assert {n: (p.shape, p.dtype) for n, p in planned.named_parameters()} == real
        assert all(p.is_meta for p in planned.parameters())


@embeddings
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_an_embedding_has_the_dtype_asked_for(make, dtype):
    for embedding in (make(V, M, dtype=dtype), make(V, M).to(dtype)):
        assert {p.dtype for p in embedding.parameters()} == {dtype}
        rows = embedding(torch.arange(V))
        assert rows.dtype == embedding.weight.dtype == dtype
        assert rows.isfinite().all()
        assert_every_parameter_is_reached(rows.square(), embedding)


@our_embeddings
def test_low_precision_stays_near_the_exact_rows(make):
    embedding = make(V, M)
    exact = embedding.weight
    low = copy.deepcopy(embedding).bfloat16().weight
    assert (low - exact).abs().mean() < 0.02 * exact.abs().mean()


# What keeps a row in fewer bytes than numbers, or in bands of full width, has tests of its own.
_NARROW = [make for name, make in OURS.items() if "adaptive" not in name and "rounded" not in name]


@pytest.mark.parametrize("make", _NARROW)
def test_nothing_of_the_size_of_the_table_is_ever_built(make, allocations):
    v, m = 30_000, 256
    with allocations() as seen:
        embedding = make(v, m)
        embedding(torch.randint(v, (4, 8))).sum().backward()
    assert v * 8 <= seen.largest < v * m / 4  # that of the Map, or its gradient


@embeddings
def test_every_parameter_of_an_embedding_is_trained(make):
    embedding = make(V, M)
    assert_every_parameter_is_reached(embedding(torch.arange(V)).square(), embedding)


@embeddings
def test_parameters_can_be_drawn_anew(make):
    embedding = make(V, M, padding_idx=1)
    before = {name: p.clone() for name, p in embedding.named_parameters()}
    randomize(embedding, std=50.0)
    embedding.reset_parameters()
    for name, parameter in embedding.named_parameters():
        if before[name].unique().numel() > 1:  # not a constant
            assert not torch.equal(parameter, before[name]), name
        assert parameter.abs().max() < 20, name
    assert not embedding(torch.tensor([1])).any()


@our_embeddings
def test_the_table_leaves_every_mode_as_it_was(make):
    embedding = make(V, M).train()
    modules = list(embedding.modules())
    for i, module in enumerate(modules):
        module.training = i % 2 == 0
    modes = [module.training for module in modules]
    assert embedding.weight.shape == (V, M)
    assert [module.training for module in modules] == modes


DROPOUT = {
    "mix": partial(define, dropout=0.5),
    "residual": partial(define, dropout=0.5, skip="residual"),
    "no-reduce-map": partial(define, dropout=0.5, reduce_map=False),
}


@pytest.mark.parametrize("make", DROPOUT.values(), ids=DROPOUT)
def test_dropout_falls_on_token_types_and_never_on_the_table(make):
    embedding = make(V, M)
    ids = torch.tensor([[4, 9, 4], [9, 4, 4]])
    exact = embedding.eval()(ids)
    embedding.train()
    once, again = embedding(ids), embedding(ids)
    for word in (4, 9):
        occurrences = once[ids == word]
        assert torch.equal(occurrences, occurrences[:1].expand_as(occurrences))
    assert not torch.equal(once, again) and not torch.equal(once, exact)
    assert_close(embedding.weight[ids], exact)
    assert_close(embedding.to_embedding()(ids), exact)


@embeddings
def test_ids_are_called_input_as_in_torch(make):
    embedding, ids = make(V, M), torch.randint(V, (3, 4))
    assert torch.equal(embedding(input=ids), embedding(ids))


def test_ids_under_two_names_are_refused():
    embedding, ids = define(V, M), torch.tensor([3])
    assert torch.equal(embedding(ids=ids), embedding(ids))
    with pytest.raises(TypeError, match="two names"):
        embedding(ids, input=ids)
    with pytest.raises(TypeError, match="not NoneType"):
        embedding()
