"""Input and output that read the rows of one unit: made once a step, the same as by themselves."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from laws import gradients, randomize
from makers import EMBEDDINGS, OURS, M, V, adaptive, define, of_adaptive
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from define import (
    LSTM,
    AdaptiveSoftmax,
    DeFINE,
    LanguageModel,
    ProjectedEmbedding,
    TiedSoftmax,
)
from define.dropout import drop_words
from define.embedding import shared

LIKE = {"dtype": torch.float64}
CUTS = [10, 30]
our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)


@pytest.fixture(params=["kept", "made again"], autouse=True)
def memory(request, monkeypatch):
    """All that a chunk holds for the gradient is kept, or some of it is made again."""
    monkeypatch.setattr(shared, "_CHUNK", 7)
    if request.param == "made again":
        monkeypatch.setattr(shared, "_KEPT", 1500)


@our_embeddings
def test_rows_and_gradients_are_those_of_the_plain_formula(make):
    embedding = randomize(make(V, M, padding_idx=3, **LIKE))
    head = randomize(TiedSoftmax(embedding, bias=True, **LIKE))
    plain = copy.deepcopy(embedding)
    plain.shared_stops = ()
    ids, targets = torch.randint(V, (4, 9)), torch.randint(V, (4, 9))

    x = embedding(ids)
    loss = head(x, targets)
    y = plain(ids)
    expected = F.cross_entropy(
        F.linear(y, plain.whole_table(), head.bias).flatten(0, 1),
        targets.flatten(),
        reduction="none",
    ).view(targets.shape)
    assert_close(x, y)
    assert_close(loss, expected)
    assert_close(gradients(loss, embedding), gradients(expected, plain))
    assert_close(head.log_prob(x).exp().sum(-1), torch.ones(4, 9, **LIKE))


class Squared(DeFINE):
    def from_map(self, e_i):
        return super().from_map(e_i).square()


def hooked(embedding):
    embedding.reduce.register_forward_hook(lambda *given: given[-1].square())
    return embedding


CHANGED = {"subclass": Squared, "hook": lambda **options: hooked(DeFINE(**options))}


@pytest.mark.parametrize("make", CHANGED.values(), ids=CHANGED)
def test_what_is_changed_behind_the_last_product_has_its_own_gradients(make):
    options = {"map": 8, "expand_dim": 16, "depth": 1, "max_groups": 1}
    embedding = randomize(make(num_embeddings=V, embedding_dim=M, **options, **LIKE))
    direct = torch.autograd.grad(
        embedding.padded_rows(torch.arange(V)).square().sum(), [*embedding.parameters()]
    )
    made = embedding.range_rows(0, V).square().sum()
    assert_close(torch.autograd.grad(made, [*embedding.parameters()]), direct)


FIRST = {"table": define, "bands": partial(of_adaptive, define)}


@pytest.mark.parametrize("make", FIRST.values(), ids=FIRST)
def test_the_first_band_alone_is_computed_the_tails_are_the_maps(make):
    embedding = randomize(make(V, M, padding_idx=3, **LIKE))
    head = randomize(AdaptiveSoftmax(embedding, cutoffs=CUTS, first_band_only=True, **LIKE))
    plain = copy.deepcopy(embedding)
    plain.shared_stops = ()
    ids, targets = torch.randint(V, (4, 9)), torch.randint(V, (4, 9))
    x = embedding(ids)
    loss = head(x, targets)

    y = plain(ids)
    computed, narrow = plain.whole_table()[:10], plain.map
    table = narrow.weight if isinstance(narrow, nn.Embedding) else narrow.whole_table()
    hidden = y.flatten(0, 1)
    rest = head.tail_projection(hidden)
    log_prob = F.linear(hidden, torch.cat([computed, head.cluster_weight])).log_softmax(-1)
    parts = [log_prob[:, :10]]
    for b, (start, stop) in enumerate([(10, 30), (30, V)]):
        parts.append(log_prob[:, 10 + b, None] + (rest @ table[start:stop].mT).log_softmax(-1))
    expected = torch.cat(parts, -1)
    assert_close(head.log_prob(x).flatten(0, 1), expected)
    expected = -expected.gather(-1, targets.view(-1, 1)).view(targets.shape)
    assert_close(loss, expected)
    assert_close(gradients(loss, embedding), gradients(expected, plain))


def pairs():
    embedding = define(V, M, dropout=0.3)
    yield embedding, TiedSoftmax(embedding)
    embedding = define(V, M)
    yield embedding, AdaptiveSoftmax(embedding, cutoffs=CUTS)
    embedding = define(V, M)
    yield embedding, AdaptiveSoftmax(embedding, cutoffs=CUTS, first_band_only=True)


@pytest.mark.parametrize("index", range(3))
def test_the_table_is_made_once_a_step_for_both(index):
    embedding, head = list(pairs())[index]
    expected = ({(0, V)}, {(0, 10), (10, 30), (30, V)}, {(0, 10)})[index]
    made, make = [], embedding.range_rows
    embedding.range_rows = lambda *edges: made.append(edges) or make(*edges)
    optimizer = torch.optim.Adam([*embedding.parameters(), *head.parameters()], lr=0.1)
    ids = torch.arange(V).view(4, -1)
    for step in range(3):
        optimizer.zero_grad()
        head(embedding(ids), ids).sum().backward()
        optimizer.step()
        assert len(made) == (step + 1) * len(expected)
    head.eval(), embedding.eval()
    with torch.no_grad():
        for _ in range(3):
            head.log_prob(embedding(ids))
    assert len(made) == 4 * len(expected) and set(made) == expected


CHANGES = {
    "step": lambda e: torch.optim.SGD(e.parameters(), lr=0.01, foreach=True).step(),
    "fused": lambda e: torch.optim.Adam(e.parameters(), lr=1.0, fused=True).step(),
    "load": lambda e: e.load_state_dict(randomize(copy.deepcopy(e)).state_dict()),
    "reset": lambda e: e.reset_parameters(),
    "init": lambda e: nn.init.normal_(e.map.weight),
    "data": lambda e: setattr(e.map.weight, "data", torch.randn(V, 8)),
    "through data": lambda e: e.map.weight.data.mul_(2),
    "set_rows": lambda e: e.set_rows(torch.tensor([2]), torch.ones(1, M)),
    "type": lambda e: e.double(),
    "padding": lambda e: setattr(e, "padding_idx", 5),
    "attribute": lambda e: setattr(e.expand.endings[0][0], "approximate", "tanh"),
    "module": lambda e: e.expand.endings[0].__setitem__(0, nn.Tanh().eval()),
    "hook": lambda e: e.reduce.register_forward_hook(lambda *given: 2 * given[-1]),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("grad", [True, False])
def test_a_table_is_made_anew_when_anything_changed(change, grad):
    embedding = randomize(define(V, M)).eval()
    head = TiedSoftmax(embedding)
    ids = torch.randint(V, (40,))
    embedding(ids).sum().backward()  # something to step along
    with torch.set_grad_enabled(grad):
        before = head.log_prob(embedding(ids))
        change(embedding)
        head.to(embedding.map.weight.dtype)
        after, rows = head.log_prob(embedding(ids)), embedding(ids)
    plain = copy.deepcopy(embedding)
    plain.shared_stops = ()
    assert_close(rows, plain(ids))
    assert_close(after, F.linear(rows, plain.whole_table(), head.bias).log_softmax(-1))
    assert not torch.allclose(after.float(), before.float())


class Sums(TorchDispatchMode):
    """Counts the tensors of a size that are summed up whole."""

    def __init__(self, size):
        super().__init__()
        self.size, self.count = size, 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten.sum.default and args[0].numel() == self.size
        return func(*args, **(kwargs or {}))


def test_a_text_is_generated_with_one_look_for_changes_through_data():
    embedding = randomize(define(V, M))
    model = LanguageModel(embedding, LSTM(M, M, 1), TiedSoftmax(embedding)).eval()
    prompt = torch.tensor([[3]])
    for change in (1.0, -3.0):
        embedding.map.weight.data.mul_(change)
        fresh = copy.deepcopy(model)
        with Sums(embedding.map.weight.numel()) as sums:
            found = model.generate(prompt, 9, temperature=0)
        assert sums.count == 1
        assert torch.equal(found, fresh.generate(prompt, 9, temperature=0))


@pytest.mark.parametrize("grad", [True, False])
def test_what_is_trained_may_change_at_any_time(grad):
    embedding = randomize(define(V, M)).requires_grad_(False)
    head, ids = TiedSoftmax(embedding), torch.arange(V)
    with torch.set_grad_enabled(grad):
        head(embedding(ids), ids)
    embedding.requires_grad_(True)
    loss = head(embedding(ids), ids).sum()
    loss.backward(retain_graph=True)
    assert all(parameter.grad.any() for parameter in embedding.parameters())
    embedding.requires_grad_(False).zero_grad()
    loss.backward()  # as in torch, what is frozen before its gradient is taken has none
    assert all(parameter.grad is None for parameter in embedding.parameters())


def test_without_gradient_each_look_up_has_a_dropout_of_its_own():
    embedding = randomize(define(V, M, dropout=0.5))
    head, ids = TiedSoftmax(embedding, bias=False), torch.arange(V)
    for alone in (False, True):  # the dropout of a model that is evaluated otherwise
        embedding.train(not alone)
        embedding.expand.endings.train()
        with torch.no_grad():
            first, second = embedding(ids), embedding(ids)
            assert not torch.allclose(first, second)
            assert_close(head.log_prob(second), F.linear(second, second).log_softmax(-1))


def test_without_gradient_and_dropout_the_table_is_made_once_in_training_mode_too():
    embedding, ids = define(V, M), torch.arange(V)
    TiedSoftmax(embedding)
    made, make = [], embedding.range_rows
    embedding.range_rows = lambda *edges: made.append(edges) or make(*edges)
    with torch.no_grad():
        embedding(ids), embedding(ids)
    assert len(made) == 1


def test_dropout_alone_in_training_mode_is_the_same_when_rows_are_made_again():
    embedding = randomize(define(V, M, dropout=0.5, **LIKE)).eval()
    TiedSoftmax(embedding)
    embedding.expand.endings.train()
    total = embedding(torch.arange(V)).sum()
    first, second = (
        torch.autograd.grad(total, embedding.reduce.weight, retain_graph=True) for _ in range(2)
    )
    assert_close(first, second)


def test_threads_do_not_get_what_another_one_made():
    module, cache = nn.Linear(2, 2), shared.StepCache()

    def wide():
        with ThreadPoolExecutor(1) as other:  # which reads in between, in bfloat16
            narrow = other.submit(low).result()
        assert narrow.dtype == torch.bfloat16
        return torch.zeros(2)

    def low():
        with torch.autocast("cpu", torch.bfloat16):
            return cache.get(module, "name", lambda: torch.zeros(2, dtype=torch.bfloat16))

    assert cache.get(module, "name", wide).dtype == torch.float32
    assert low().dtype == torch.bfloat16


def test_dropout_of_the_unit_is_one_for_input_and_output():
    embedding = randomize(define(V, M, dropout=0.5))
    head = TiedSoftmax(embedding, bias=False)
    ids = torch.arange(V)
    x = embedding(ids)
    assert_close(head.log_prob(x), F.linear(x, x).log_softmax(-1))
    again = embedding.eval()(ids)
    assert not torch.allclose(again, x)
    assert_close(again, embedding.weight)
    # Made again for the gradient with the same dropout: the gradient is that of what was made.
    embedding.double().train()
    weights = torch.randn(V, M, **LIKE)
    parameter = embedding.expand.linears[0].bias
    torch.manual_seed(5)
    (gradient,) = torch.autograd.grad((embedding(ids) * weights).sum(), parameter)
    step = 1e-6 * torch.randn_like(parameter)
    values = []
    for sign in (1, -1):
        with torch.no_grad():
            parameter += sign * step
            torch.manual_seed(5)
            values.append((embedding(ids) * weights).sum())
            parameter -= sign * step
    assert_close(gradient @ step, (values[0] - values[1]) / 2, rtol=1e-5, atol=1e-9)


def test_nothing_outlives_a_model_whose_step_was_broken_off():
    embedding = of_adaptive(define, V, M)
    TiedSoftmax(embedding)
    rows = embedding(torch.arange(V))  # no gradient of them is ever taken
    held = [weakref.ref(part) for part in (embedding, embedding.map, embedding.map.tables[0])]
    del embedding, rows
    gc.collect()
    assert [part() for part in held] == [None] * 3


def test_a_hook_of_a_parameter_sees_the_whole_gradient_once():
    embedding, ids = randomize(define(V, M, **LIKE)), torch.randint(V, (40,))
    TiedSoftmax(embedding)
    embedding(ids).square().sum().backward()
    expected = embedding.reduce.weight.grad.clone()
    embedding.zero_grad()
    seen = []
    embedding.reduce.weight.register_hook(lambda gradient: seen.append(gradient) or 2 * gradient)
    embedding(ids).square().sum().backward()
    assert_close(seen, [expected])
    assert_close(embedding.reduce.weight.grad, 2 * expected)


def test_rows_have_the_gradients_of_what_they_were_made_with():
    embedding, ids = randomize(define(V, M, dropout=0.5, **LIKE)), torch.randint(V, (40,))
    TiedSoftmax(embedding)
    owner = randomize(copy.deepcopy(embedding))
    lent = dict(owner.named_parameters())
    torch.manual_seed(5)
    expected = torch.autograd.grad(owner(ids).square().sum(), list(lent.values()))
    torch.manual_seed(5)
    loss = torch.func.functional_call(embedding, lent, ids).square().sum()  # and gives them back
    embedding.eval()
    embedding.padding_idx = int(ids[0])
    assert_close(torch.autograd.grad(loss, list(lent.values()), allow_unused=True), expected)


def test_ids_that_change_before_the_gradient_is_taken_are_refused():
    embedding, ids = define(V, M), torch.arange(V)
    TiedSoftmax(embedding)
    rows = embedding(ids)
    ids.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rows.sum().backward()


def test_gradients_of_many_chunks_in_bfloat16_add_up():
    size = 3000
    embedding = ProjectedEmbedding(size, 4, map=4).bfloat16()
    nn.init.uniform_(embedding.map.weight)
    upstream = torch.full((size, 4), 0.01, dtype=torch.bfloat16)
    rows = embedding.map.weight.double().sum(0)
    embedding.made_rows().backward(upstream)
    expected = rows.expand(4, 4) * upstream[0, 0].double()
    got = embedding.projection.weight.grad[0].double()
    assert (got - expected).norm() < 0.02 * expected.norm()


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_a_checkpointed_look_up_has_the_gradients_of_one_that_is_not(use_reentrant):
    embedding = randomize(define(V, M, dropout=0.5, **LIKE))
    head, ids = TiedSoftmax(embedding, bias=False), torch.randint(V, (40,))
    anchor, parameter = torch.zeros(1, **LIKE, requires_grad=True), embedding.expand.linears[0].bias

    def loss():
        torch.manual_seed(5)
        rows = checkpoint(
            lambda anchor: F.dropout(embedding(ids), 0.5) + anchor,
            anchor,
            use_reentrant=use_reentrant,
        )
        return head(rows, ids).sum()

    for mode in (True, False):
        embedding.train(mode)
        loss().backward()
        gradient, parameter.grad = parameter.grad.clone(), None
        step, values = 1e-6 * torch.randn_like(parameter), []
        for sign in (1, -1):
            with torch.no_grad():
                parameter += sign * step
            values.append(loss().detach())
            with torch.no_grad():
                parameter -= sign * step
        assert_close(gradient @ step, (values[0] - values[1]) / 2, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("p", [1.0, 2.0])
def test_rows_of_a_map_that_look_ups_shorten_are_those_of_a_look_up(p):
    map = nn.Embedding(V, 8, max_norm=0.5, norm_type=p)
    embedding, ids = ProjectedEmbedding(V, M, map=map), torch.arange(V)
    TiedSoftmax(embedding)
    rows = embedding(ids)
    assert_close(map.weight.norm(p, dim=1), torch.full((V,), 0.5))
    assert_close(rows, embedding.weight)


def test_words_are_dropped_from_the_input_alone():
    embedding = randomize(define(V, M))
    head = TiedSoftmax(embedding, bias=False)
    drop_words(embedding, 0.5)
    torch.manual_seed(1)
    x = embedding(torch.arange(V))
    full = copy.deepcopy(embedding).eval()
    assert not torch.allclose(x, full(torch.arange(V)))
    assert_close(head.log_prob(x), F.linear(x, full.whole_table()).log_softmax(-1))


def test_several_backward_passes_and_second_derivatives():
    embedding = randomize(define(V, M, **LIKE))
    head = TiedSoftmax(embedding, **LIKE)
    ids = torch.randint(V, (9,))
    parameters = list(embedding.parameters())
    first, second = embedding(ids).square().sum(), head.log_prob(embedding(ids)).square().sum()
    apart = [torch.autograd.grad(loss, parameters) for loss in (first, second)]
    embedding.zero_grad()
    (embedding(ids).square().sum() + head.log_prob(embedding(ids)).square().sum()).backward()
    assert_close([a + b for a, b in zip(*apart, strict=True)], [p.grad for p in parameters])

    plain = copy.deepcopy(embedding)
    plain.shared_stops = ()

    def penalty(embedding):
        own = list(embedding.parameters())
        slopes = torch.autograd.grad(embedding(ids).tanh().sum(), own, create_graph=True)
        return torch.autograd.grad(sum(s.square().sum() for s in slopes), own, allow_unused=True)

    for ours, expected in zip(penalty(embedding), penalty(plain), strict=True):
        assert_close(torch.zeros(1, **LIKE) if ours is None else ours,
                     torch.zeros(1, **LIKE) if expected is None else expected)  # fmt: skip


def test_a_parameter_that_changed_before_its_gradient_is_refused():
    embedding = randomize(define(V, M))
    TiedSoftmax(embedding)
    loss = embedding(torch.arange(V)).square().sum()
    with torch.no_grad():
        embedding.map.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place|modified by an inplace"):
        loss.backward()


@pytest.mark.parametrize("first_band_only", [False, True])
def test_in_bfloat16_autocast(first_band_only):
    embedding = randomize(define(V, M), std=0.3)
    head = AdaptiveSoftmax(embedding, cutoffs=CUTS, first_band_only=first_band_only)
    ids = torch.randint(V, (40,))
    exact = head(embedding(ids), ids)
    wanted = torch.autograd.grad(exact.sum(), list(embedding.parameters()))
    with torch.autocast("cpu", torch.bfloat16):
        rows = embedding(ids)
        low = head(rows, ids)
    assert rows.dtype == torch.bfloat16 and low.dtype == torch.float32
    assert_close(low, exact, rtol=0.05, atol=0.2)
    got = torch.autograd.grad(low.sum(), list(embedding.parameters()))  # outside of autocast
    for a, b in zip(got, wanted, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.1 * b.norm() + 0.05


def test_copies_share_among_themselves():
    embedding = randomize(define(V, M))
    parts = nn.ModuleDict({"embedding": embedding, "head": TiedSoftmax(embedding)}).eval()
    ids = torch.arange(V)
    with torch.no_grad():
        expected = parts["head"].log_prob(parts["embedding"](ids))
        for twin in (copy.deepcopy(parts), pickle.loads(pickle.dumps(parts))):
            assert torch.equal(twin["head"].log_prob(twin["embedding"](ids)), expected)
            randomize(twin["embedding"])
            assert not torch.equal(twin["head"].log_prob(twin["embedding"](ids)), expected)
            assert torch.equal(parts["head"].log_prob(parts["embedding"](ids)), expected)


def test_it_follows_a_vocabulary_that_grows():
    embedding = randomize(define(V, M))
    TiedSoftmax(embedding)
    embedding.resize(V + 5)
    assert embedding.made_rows().shape == (V + 5, M)
    assert_close(embedding(torch.arange(V + 5)), embedding.whole_table())
    with pytest.raises(IndexError, match=f"id {V + 5} is not within num_embeddings={V + 5}"):
        embedding(torch.tensor([V + 5]))


def test_a_language_model_trains_on_both_sides():
    for embedding, head in pairs():
        model = LanguageModel(embedding, LSTM(M, 12, 1, output_size=M), head)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        tokens, losses = torch.randint(V, (4, 12)), []
        for _ in range(30):
            optimizer.zero_grad()
            loss = model(tokens, tokens)[0].mean()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[-1] < 0.8 * losses[0]


def test_what_has_no_map_has_no_tails_to_leave_on_it():
    for make in (adaptive, EMBEDDINGS["standard"]):
        with pytest.raises(ValueError, match="first_band_only=True needs an embedding with a Map"):
            AdaptiveSoftmax(make(V, M), cutoffs=CUTS, first_band_only=True)


def test_activations_of_the_whole_table_are_never_held(monkeypatch):
    """The unit is wide: what is held for the gradient stays with a few chunks of it."""
    monkeypatch.setattr(shared, "_CHUNK", 50)
    monkeypatch.setattr(shared, "_KEPT", 20_000)
    size, width = 3000, 512
    embedding = define(size, 8, expand_dim=width)
    head = TiedSoftmax(embedding)
    held = 0

    def pack(tensor):
        nonlocal held
        held += tensor.numel() if tensor.requires_grad and not tensor.is_leaf else 0
        return tensor

    ids = torch.randint(size, (20,))
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = head(embedding(ids), ids).sum()
    assert held < size * width / 2
    loss.backward()
    assert embedding.map.weight.grad.any(-1).all()
