"""Input and output that read the rows of one unit: the values and gradients of each alone."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from laws import gradients, randomize
from makers import EMBEDDINGS, OURS, M, V, adaptive, define, of_adaptive
from torch import nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from define import AdaptiveSoftmax, DeFINE, ProjectedEmbedding, TiedSoftmax
from define.dropout import drop_words
from define.embedding import shared

pytestmark = pytest.mark.usefixtures("chunks")
LIKE = {"dtype": torch.float64}
CUTS = [10, 30]
our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)


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


def test_dropout_alone_in_training_mode_is_the_same_when_rows_are_made_again():
    embedding = randomize(define(V, M, dropout=0.5, **LIKE)).eval()
    TiedSoftmax(embedding)
    embedding.expand.endings.train()
    total = embedding(torch.arange(V)).sum()
    first, second = (
        torch.autograd.grad(total, embedding.reduce.weight, retain_graph=True) for _ in range(2)
    )
    assert_close(first, second)


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
