"""Rows that input and output share: made once a step, kept until something changed, let go."""

import copy
import gc
import pickle
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
import torch.nn.functional as F
from laws import randomize
from makers import M, V, define, of_adaptive
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from define import LSTM, AdaptiveSoftmax, LanguageModel, TiedSoftmax
from define.embedding import shared

pytestmark = pytest.mark.usefixtures("chunks")
CUTS = [10, 30]


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


def test_nothing_outlives_a_model_whose_step_was_broken_off():
    embedding = of_adaptive(define, V, M)
    TiedSoftmax(embedding)
    rows = embedding(torch.arange(V))  # no gradient of them is ever taken
    held = [weakref.ref(part) for part in (embedding, embedding.map, embedding.map.tables[0])]
    del embedding, rows
    gc.collect()
    assert [part() for part in held] == [None] * 3


def test_ids_that_change_before_the_gradient_is_taken_are_refused():
    embedding, ids = define(V, M), torch.arange(V)
    TiedSoftmax(embedding)
    rows = embedding(ids)
    ids.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        rows.sum().backward()


def test_a_parameter_that_changed_before_its_gradient_is_refused():
    embedding = randomize(define(V, M))
    TiedSoftmax(embedding)
    loss = embedding(torch.arange(V)).square().sum()
    with torch.no_grad():
        embedding.map.weight.add_(1.0)
    with pytest.raises(RuntimeError, match="changed in place|modified by an inplace"):
        loss.backward()


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
