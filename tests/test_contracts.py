"""What every embedding, every output layer and every backbone keeps, whatever it is made of."""

import copy
import io
import pickle
from functools import partial

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import (
    LSTM,
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    DeFINE,
    ProjectedEmbedding,
    Softmax,
    TiedSoftmax,
    TransformerXL,
)
from define.softmax import chunked

V, M = 60, 16  # vocabulary and width of the small models here


def randomize(module, std=0.5):
    """All parameters, also those that are zero at first: no law holds by accident then."""
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=std)
    return module


def gradients(output, module, *inputs, weighted=True):
    """Of a sum: one in which each element has a weight of its own, or all have the same."""
    tensors = [*inputs, *module.parameters()]
    weights = torch.full_like(output, -0.7)
    if weighted:
        weights = torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view(output.shape)
    return torch.autograd.grad((output * weights).sum(), tensors, materialize_grads=True)


def assert_state_round_trip(make):
    """No key twice, one owner for each parameter, and everything comes back."""
    module, other = randomize(make()), randomize(make())
    state = module.state_dict()
    pointers = [t.data_ptr() for t in state.values()]
    assert len(set(pointers)) == len(pointers)
    assert set(state) == {name for name, _ in module.named_parameters()}
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    other.load_state_dict(torch.load(file))
    return module, other


def assert_every_parameter_is_reached(loss, module):
    loss.sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name
        assert parameter.grad.isfinite().all(), name


# Embeddings


def adaptive(v, m, padding_idx=None, **options):
    return AdaptiveEmbedding(v, m, padding_idx, cutoffs=[v // 6, v // 2], **options)


def factory(**options):
    return {key: value for key, value in options.items() if key in ("device", "dtype")}


def define(v, m, padding_idx=None, **options):
    options = {"map": 8, "expand_dim": 32, "depth": 2, "max_groups": 4} | options
    return DeFINE(v, m, padding_idx, **options)


def of_adaptive(make, v, m, padding_idx=None, **options):
    map = adaptive(v, 8, div_value=2, **factory(**options))
    return make(v, m, padding_idx, map=map, **options)


def of_table(make, v, m, padding_idx=None, **options):
    return make(v, m, padding_idx, map=nn.Embedding(v, 8, **factory(**options)), **options)


OURS = {
    "projected": partial(ProjectedEmbedding, map=8),
    "projected-bias": partial(ProjectedEmbedding, map=8, bias=True),
    "projected-of-adaptive": partial(of_adaptive, ProjectedEmbedding),
    "adaptive": adaptive,
    "adaptive-narrow": partial(adaptive, map_dim=8, div_value=1),
    "adaptive-project-first": partial(adaptive, project_first=True),
    "define": define,
    "define-none": partial(define, skip="none"),
    "define-residual": partial(define, skip="residual"),
    "define-concatenation": partial(define, skip="concatenation"),
    "define-stack": partial(define, groups=(1, 1, 1)),
    "define-shuffle": partial(define, groups=(4, 4), shuffle=True),
    "define-shared": partial(define, shared=True),
    "define-no-reduce": partial(define, reduce=False),
    "define-no-reduce-map": partial(define, reduce_map=False),
    "define-norm": partial(define, norm=nn.LayerNorm, activation=nn.GELU),
    "define-of-adaptive": partial(of_adaptive, define),
    "define-of-table": partial(of_table, define),
}
EMBEDDINGS = {"standard": nn.Embedding} | OURS
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
    with pytest.raises(IndexError, match=f"id {id_} is not within self.num_embeddings={V}"):
        make(V, M)(torch.tensor([[3, id_, 5]]))


@pytest.mark.usefixtures("unchecked")
@our_embeddings
@pytest.mark.parametrize("dtype", [torch.float32, torch.bool, torch.uint8])
def test_ids_of_a_wrong_dtype_are_refused(make, dtype):
    with pytest.raises(TypeError, match=f"int64 or int32, not {dtype}"):
        make(V, M)(torch.zeros(3, dtype=dtype))


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


@pytest.mark.parametrize("make", [make for name, make in OURS.items() if "adaptive" not in name])
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


# Output layers: each beside the embedding that it is tied to


def pair(head, embedding=None):
    parts = {"head": head} if embedding is None else {"embedding": embedding, "head": head}
    return nn.ModuleDict(parts)


def tied(make_head, make_embedding=nn.Embedding, width=8, to_map=False):
    """Makes an embedding, and a head tied to it or to its Map."""

    def make(v=V, ignore_index=-100, **like):
        embedding = make_embedding(v, width, **like)
        table = embedding.map if to_map else embedding
        return pair(make_head(table, ignore_index=ignore_index, **like), embedding)

    return make


def plain_softmax(bias):
    def make(v=V, **options):
        return pair(Softmax(8, v, bias=bias, **options))

    return make


def with_options(make_head, **fixed):
    def make(table, **options):
        cut = [table.num_embeddings // 6, table.num_embeddings // 2]
        cutoffs = {} if isinstance(table, AdaptiveEmbedding) else {"cutoffs": cut}
        cutoffs = cutoffs if make_head is AdaptiveSoftmax else {}
        return make_head(table, **cutoffs, **fixed, **options)

    return make


_projected = partial(ProjectedEmbedding, map=4)
_adaptive = partial(with_options, AdaptiveSoftmax)
_biased = {"bias": True, "cluster_bias": True}
HEADS = {
    "softmax": plain_softmax(True),
    "softmax-no-bias": plain_softmax(False),
    "tied": tied(TiedSoftmax),
    "tied-own-projection": tied(with_options(TiedSoftmax, in_features=12, bias=False)),
    "tied-to-the-map": tied(with_options(TiedSoftmax, in_features=12), define, M, to_map=True),
    "tied-to-a-computed-table": tied(TiedSoftmax, _projected),
    "tied-to-define": tied(TiedSoftmax, define, M),
    "adaptive-of-a-table": tied(_adaptive()),
    "adaptive-of-a-table-biased": tied(_adaptive(in_features=12, **_biased)),
    "adaptive-of-a-computed-table": tied(_adaptive(bias=True), _projected),
    "adaptive": tied(_adaptive(), adaptive, M),
    "adaptive-own-projection": tied(_adaptive(in_features=12, cluster_bias=True), adaptive, M),
    "adaptive-untied-projections": tied(_adaptive(tie_projections=False), adaptive, M),
    "adaptive-narrow": tied(_adaptive(**_biased), partial(adaptive, map_dim=8, div_value=1), M),
    "adaptive-project-first": tied(
        _adaptive(tie_projections=False, **_biased), partial(adaptive, project_first=True), M
    ),
}
heads = pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
adaptive_heads = pytest.mark.parametrize(
    "make", [make for name, make in HEADS.items() if name.startswith("adaptive")]
)


def example(make, *shape, v=V, dtype=torch.float64, scale=1.0, **options):
    """A model with random parameters, hidden states and targets of the given shape."""
    model = randomize(make(v, dtype=dtype, **options))
    hidden = scale * torch.randn(*shape, model["head"].in_features, dtype=dtype)
    return model, hidden.requires_grad_(), torch.randint(v, shape)


@heads
@pytest.mark.parametrize("shape", [(), (3,), (0,), (2, 0), (2, 3, 2)])
def test_a_head_takes_any_leading_dimensions(make, shape):
    model, hidden, targets = example(make, *shape)
    head = model["head"]
    assert head(hidden, targets).shape == shape
    assert head(hidden, targets.int()).shape == shape
    assert head.log_prob(hidden).shape == (*shape, V)
    assert head.predict(hidden).shape == shape
    assert [t.shape for t in head.topk(hidden, 3)] == [(*shape, 3)] * 2
    rows = hidden.reshape(-1, head.in_features)
    assert_close(head(hidden, targets).flatten(), head(rows, targets.flatten()))


@heads
@pytest.mark.parametrize("weighted", [True, False])
def test_the_loss_is_the_negative_log_probability_of_the_target(make, weighted):
    model, hidden, targets = example(make, 3, 40)
    nll = model["head"](hidden, targets)
    log_prob = model["head"].log_prob(hidden)
    expected = -log_prob.gather(-1, targets[..., None]).squeeze(-1)
    assert_close(nll, expected)
    assert_close(
        gradients(nll, model, hidden, weighted=weighted),
        gradients(expected, model, hidden, weighted=weighted),
    )


@heads
def test_probabilities_sum_to_one(make):
    model, hidden, _ = example(make, 50, scale=3.0)
    sums = model["head"].log_prob(hidden).logsumexp(-1)
    assert_close(sums, torch.zeros_like(sums))


@heads
@pytest.mark.parametrize("k", [1, 5, V // 6 + 3, V // 2 + 1, V])
@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_the_k_likeliest_are_those_of_all_probabilities(make, k, scale):
    model, hidden, _ = example(make, 40, scale=scale)
    log_prob = model["head"].log_prob(hidden)
    values, ids = model["head"].topk(hidden, k)
    expected = log_prob.topk(k)
    assert_close(values, expected.values)
    assert torch.equal(ids, expected.indices)
    assert torch.equal(model["head"].predict(hidden), log_prob.argmax(-1))


# A class of the first band, of the second, of the third; V // 6 and the next are also numbers of
# clusters, the smallest ones also places within each band.
@heads
@pytest.mark.parametrize("ignore_index", [-100, -1, 0, 3, V // 6, V // 6 + 1, V // 2, V - 1])
def test_ignored_targets_cost_nothing_and_teach_nothing(make, ignore_index):
    model, hidden, targets = example(make, 60, ignore_index=ignore_index)
    targets[::3] = ignore_index
    ignored = targets == ignore_index
    nll = model["head"](hidden, targets)
    assert not nll[ignored].any() and (nll[~ignored] > 0).all()
    grads = gradients(nll, model, hidden)
    assert not grads[0][ignored].any() and grads[0][~ignored].any(-1).all()

    # As if they were not there.
    expected = -model["head"].log_prob(hidden).gather(-1, targets.clamp(0)[:, None]).squeeze(-1)
    expected = torch.where(ignored, 0.0, expected)
    assert_close(nll, expected)
    assert_close(grads, gradients(expected, model, hidden))


@heads
def test_a_batch_of_ignored_targets_has_no_gradient(make):
    model, hidden, targets = example(make, 4)
    nll = model["head"](hidden, torch.full_like(targets, -100))
    assert not nll.any()
    assert not any(g.any() for g in gradients(nll, model, hidden))


@heads
@pytest.mark.parametrize("target", [-1, V, 10**9])
def test_a_target_out_of_range_is_named(make, target):
    model, hidden, targets = example(make, 2, 3)
    targets[1, 1] = target
    with pytest.raises(IndexError, match=f"target {target} is not within self.num_classes={V}"):
        model["head"](hidden, targets)


@pytest.mark.usefixtures("unchecked")
@heads
def test_inputs_that_do_not_fit_a_head_are_refused(make):
    model, hidden, targets = example(make, 2, 3)
    head = model["head"]
    with pytest.raises(ValueError, match=r"targets \(3,\) .* hidden \(2, 3, "):
        head(hidden, targets[0])
    wide = torch.randn(2, 3, head.in_features + 1, dtype=hidden.dtype)
    for use in (partial(head, targets=targets), head.log_prob, head.predict):
        with pytest.raises(ValueError, match=f"self.in_features={head.in_features}"):
            use(wide)
    with pytest.raises(TypeError, match="int64 or int32, not torch.float32"):
        head(hidden, targets.float())
    for k in (0, V + 1):
        with pytest.raises(ValueError, match=f"{k=} must be within 1 and self.num_classes={V}"):
            head.topk(hidden, k)


@heads
def test_the_logits_of_a_batch_are_never_held_at_once(make, monkeypatch, allocations):
    monkeypatch.setattr(chunked, "_CPU_LOGITS", 4096)
    monkeypatch.setattr(chunked, "_MIN_ROWS", 4)
    v, rows = 600, 512
    model, hidden, targets = example(make, rows, v=v)
    with allocations() as seen:
        nll = model["head"](hidden, targets)
        nll.sum().backward()
        model["head"].topk(hidden, 5)
    assert seen.largest <= (v + 3) * 40 < rows * v / 10  # a table or a layer of DeFINE
    with allocations() as seen:
        model["head"].log_prob(hidden)
    assert seen.largest >= rows * v  # the check can fail


@heads
def test_chunks_change_nothing(make, monkeypatch):
    model, hidden, targets = example(make, 50)
    head = model["head"]
    targets[::7] = -100

    def results():
        nll, again = head(hidden, targets), head(hidden, targets)
        weighted = gradients(nll, model, hidden)
        return nll, weighted, gradients(again, model, hidden, weighted=False), head.topk(hidden, 4)

    whole = results()
    monkeypatch.setattr(chunked, "_CPU_LOGITS", 1)
    monkeypatch.setattr(chunked, "_MIN_ROWS", 3)
    assert len(chunked.chunks(hidden, V)) == 17
    assert_close(results(), whole)


@heads
def test_second_derivatives_are_refused(make):
    model, hidden, targets = example(make, 4)
    nll = model["head"](hidden, targets)
    for loss in (nll.sum(), nll.square().sum()):
        with pytest.raises(RuntimeError, match="first derivatives only"):
            torch.autograd.grad(loss, hidden, create_graph=True)


@heads
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("autocast", [True, False])
def test_in_bfloat16_errors_are_no_larger_than_those_of_cross_entropy(make, autocast, weighted):
    """Under autocast, where torch's own adaptive softmax fails, and with all in bfloat16."""
    model, hidden, targets = example(make, 200)
    take = partial(gradients, weighted=weighted)
    nll = model["head"](hidden, targets)
    exact = [nll, *take(nll, model, hidden)]

    dtype = torch.float32 if autocast else torch.bfloat16
    model, hidden = model.to(dtype), hidden.detach().to(dtype).requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        nll = model["head"](hidden, targets)
        # F.cross_entropy by its definition: adaptive heads have no other form of it.
        log_prob = model["head"].log_prob(hidden)
        reference = nn.functional.nll_loss(log_prob, targets, reduction="none")
    assert nll.dtype == torch.float32
    ours = [nll, *take(nll, model, hidden)]
    theirs = [reference, *take(reference, model, hidden)]
    assert all(t.isfinite().all() for t in ours)
    # Values alone, then all gradients together: some are zero but for rounding.
    for part in (slice(1), slice(1, None)):
        a, b, c = (torch.cat([t.flatten() for t in ts[part]]) for ts in (ours, theirs, exact))
        assert (a - c).norm() <= 1.05 * (b - c).norm() + 1e-3 * c.norm()


@heads
def test_the_state_of_a_tied_pair_has_one_owner_for_each_parameter(make):
    model, other = assert_state_round_trip(make)
    hidden = torch.randn(3, model["head"].in_features)
    assert torch.equal(model["head"].log_prob(hidden), other["head"].log_prob(hidden))
    if "embedding" in model:
        alone = set(model["embedding"].parameters())
        assert not alone & set(model["head"].parameters())


@heads
def test_copies_of_a_pair_stay_tied_among_themselves(make):
    model, hidden, _ = example(make, 3)
    before = model["head"].log_prob(hidden)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other["head"].log_prob(hidden), before)
        if "embedding" not in model:
            continue
        randomize(other["embedding"])
        assert not torch.allclose(other["head"].log_prob(hidden), before)
        assert torch.equal(model["head"].log_prob(hidden), before)


@heads
def test_a_head_can_be_planned_on_the_meta_device(make):
    real = {name: (p.shape, p.dtype) for name, p in make().named_parameters()}
    with torch.device("meta"):
        inherited = make()
    for planned in (make(device="meta"), inherited):
        assert {n: (p.shape, p.dtype) for n, p in planned.named_parameters()} == real
        assert all(p.is_meta for p in planned.parameters())


@heads
def test_a_head_has_the_dtype_asked_for_and_a_repr(make):
    model = make(dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    head = model["head"]
    assert f"in_features={head.in_features}, num_classes={V}" in repr(head)


@heads
def test_a_loss_trains_the_head_and_the_tables_that_it_is_tied_to(make):
    model, hidden, _ = example(make, V)
    model["head"](hidden, torch.arange(V)).sum().backward()
    untied = len(getattr(model["head"], "projections", ()))
    for name, parameter in model.named_parameters():
        unit = name.startswith(("embedding.expand", "embedding.reduce"))
        if make is HEADS["tied-to-the-map"] and unit:
            assert parameter.grad is None, name  # it serves the input alone
        elif untied and name.startswith("embedding.projections"):
            assert parameter.grad is None, name
        else:
            assert parameter.grad.any(), name


@heads
def test_a_head_can_be_drawn_anew_without_its_tied_table(make):
    model = make()
    if "embedding" in model:
        table = {name: p.clone() for name, p in model["embedding"].named_parameters()}
    own = {name: p.clone() for name, p in model["head"].named_parameters()}
    randomize(model["head"], std=50.0)
    model["head"].reset_parameters()
    for name, parameter in model["head"].named_parameters():
        assert torch.equal(parameter, own[name]) == ("bias" in name), name
        assert parameter.abs().max() < 20, name
    if "embedding" in model:
        for name, parameter in model["embedding"].named_parameters():
            assert torch.equal(parameter, table[name]), name


# Backbones


def transformer(**options):
    sizes = {"num_heads": 2, "head_dim": 3, "inner_dim": 8, "memory_length": 100, "dropout": 0.0}
    return TransformerXL(6, 2, **sizes | options)


BACKBONES = {
    "lstm": partial(LSTM, 6, 7, 2),
    "lstm-narrow-end": partial(LSTM, 6, 7, 3, output_size=4),
    "lstm-one-layer": partial(LSTM, 6, 7, 1),
    "awd-lstm": partial(
        LSTM, 6, 7, 2, dropout=0.3, input_dropout=0.4, output_dropout=0.2, weight_dropout=0.5
    ),
    "transformer-xl": transformer,
    "transformer-xl-pre-norm": partial(transformer, pre_norm=True),
    "transformer-xl-dropout": partial(transformer, dropout=0.2, attention_dropout=0.2),
}
backbones = pytest.mark.parametrize("make", BACKBONES.values(), ids=BACKBONES)


def leaves(state):
    return [state] if isinstance(state, torch.Tensor) else [t for s in state for t in leaves(s)]


@backbones
@pytest.mark.parametrize("batch", [0, 1, 3])
@pytest.mark.parametrize("time", [1, 5])
def test_a_backbone_gives_a_vector_a_step_and_a_state(make, batch, time):
    backbone = make()
    x = torch.randn(batch, time, backbone.input_size)
    y, state = backbone(x)
    assert y.shape == (batch, time, backbone.output_size)
    y, _ = backbone(x, state)
    assert y.shape == (batch, time, backbone.output_size)


@backbones
@pytest.mark.parametrize("cuts", [(3, 4), (1, 6), (2, 2, 3)])
def test_segments_with_carried_state_are_one_whole(make, cuts):
    backbone = randomize(make()).double().eval()
    x = torch.randn(2, sum(cuts), backbone.input_size, dtype=torch.float64)
    whole, last = backbone(x)
    state, parts = None, []
    for segment in x.split(cuts, dim=1):
        y, state = backbone(segment, state)
        parts.append(y)
    assert_close(torch.cat(parts, 1), whole)
    assert_close(leaves(state), leaves(last))
    forgotten, _ = backbone(x[:, cuts[0] :])
    assert not torch.allclose(forgotten, whole[:, cuts[0] :])


@backbones
def test_outputs_have_no_gradient_to_the_future_nor_to_other_rows(make):
    backbone = randomize(make()).double().eval()
    x = torch.randn(2, 6, backbone.input_size, dtype=torch.float64, requires_grad=True)
    y, _ = backbone(x)
    for time in range(6):
        (grad,) = torch.autograd.grad(y[0, time].square().sum(), x, retain_graph=True)
        assert grad[0, : time + 1].any(-1).all()
        assert not grad[0, time + 1 :].any() and not grad[1].any()


@backbones
def test_state_is_an_argument_and_a_result_alone(make):
    backbone = make().eval()
    x = torch.randn(2, 3, backbone.input_size)
    first, state = backbone(x)
    kept = [t.clone() for t in leaves(state)]
    backbone(x, state)
    again, _ = backbone(x)
    assert torch.equal(first, again)
    assert all(torch.equal(a, b) for a, b in zip(kept, leaves(state), strict=True))


@pytest.mark.usefixtures("unchecked")
@backbones
def test_a_state_that_does_not_fit_is_refused(make):
    backbone = make()
    x = torch.randn(2, 3, backbone.input_size)
    _, state = backbone(x)
    with pytest.raises(ValueError, match="state"):
        backbone(torch.cat([x, x]), state)  # another batch
    with pytest.raises(ValueError, match="state"):
        backbone(x, state[:-1])  # a layer missing
    narrow = state[..., :-1] if isinstance(state, torch.Tensor) else state[:-1] + ((x, x),)
    with pytest.raises(ValueError, match="state"):
        backbone(x, narrow)
    with pytest.raises(ValueError, match=str(backbone.input_size + 1)):
        backbone(torch.randn(2, 3, backbone.input_size + 1))


@backbones
def test_every_parameter_of_a_backbone_is_trained(make):
    backbone = make()
    if isinstance(backbone, TransformerXL):
        randomize(backbone)
    y, state = backbone(torch.randn(4, 6, backbone.input_size))
    y, _ = backbone(torch.randn(4, 6, backbone.input_size), state)
    weights = torch.randn_like(y)  # a plain sum is constant after a LayerNorm
    assert_every_parameter_is_reached(y * weights, backbone)


@backbones
def test_a_backbone_copies_pickles_and_comes_back(make):
    backbone, other = assert_state_round_trip(make)
    x = torch.randn(2, 3, backbone.input_size)
    backbone(x)[0].sum().backward()  # also after use
    wanted, _ = backbone.eval()(x)
    for twin in (other.eval(), copy.deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert torch.equal(twin(x)[0], wanted)
    assert repr(backbone).startswith(type(backbone).__name__)


@backbones
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_backbone_has_the_dtype_asked_for(make, dtype):
    backbone = make().to(dtype)
    y, state = backbone(torch.randn(2, 3, backbone.input_size, dtype=dtype))
    assert {t.dtype for t in [y, *leaves(state)]} == {dtype}
    assert y.isfinite().all()


@backbones
def test_a_backbone_can_be_planned_on_the_meta_device(make):
    with torch.device("meta"):
        planned = make()
    assert all(p.is_meta for p in planned.parameters())
    assert [p.shape for p in planned.parameters()] == [p.shape for p in make().parameters()]


@backbones
def test_a_backbone_can_be_drawn_anew(make):
    backbone = randomize(make(), std=50.0)
    backbone.reset_parameters()
    assert all(p.abs().max() < 2 for p in backbone.parameters())
