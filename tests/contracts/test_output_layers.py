"""What every output layer keeps, beside the embedding that it is tied to."""

import copy
import pickle
from functools import partial

import pytest
import torch
from laws import assert_state_round_trip, gradients, randomize
from makers import HEADS, V
from torch import nn
from torch.testing import assert_close

from define import AdaptiveSoftmax, TiedSoftmax
from define.embedding import resize, unit_parameters
from define.softmax import chunked

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
    with pytest.raises(IndexError, match=f"target {target} is not within num_classes={V}"):
        model["head"](hidden, targets)


@pytest.mark.parametrize("kind", [TiedSoftmax, partial(AdaptiveSoftmax, cutoffs=[20])])
@pytest.mark.parametrize("width", [8, 32, 256])
def test_logits_start_at_one_scale_whatever_the_width_of_the_table(kind, width):
    """That of normalized hidden states of width m with a table of width m: std * sqrt(m)."""
    table = nn.Embedding(400, width)  # entries of deviation 1
    head = kind(table, in_features=256)
    hidden = torch.randn(500, 256)
    for _ in range(2):
        logits = head.projection(hidden) @ table.weight.T
        assert logits.std().item() == pytest.approx(256**0.5, rel=0.15)
        head.reset_parameters()


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("head", [TiedSoftmax, partial(AdaptiveSoftmax, cutoffs=[4])])
def test_what_is_no_embedding_is_not_tied(head):
    with pytest.raises(TypeError, match=r"map=Linear.* must be an embedding"):
        head(nn.Linear(3, 4))


@pytest.mark.usefixtures("unchecked")
@heads
def test_inputs_that_do_not_fit_a_head_are_refused(make):
    model, hidden, targets = example(make, 2, 3)
    head = model["head"]
    with pytest.raises(ValueError, match=r"targets \(3,\) .* hidden \(2, 3, "):
        head(hidden, targets[0])
    wide = torch.randn(2, 3, head.in_features + 1, dtype=hidden.dtype)
    for use in (partial(head, targets=targets), head.log_prob, head.predict):
        with pytest.raises(ValueError, match=f"in_features={head.in_features}"):
            use(wide)
    for wrong in (targets.float(), targets.numpy(), targets.tolist()):
        with pytest.raises(TypeError, match="targets must be a tensor of int64 or int32, not "):
            head(hidden, wrong)
    for k in (0, V + 1):
        with pytest.raises(ValueError, match=f"{k=} must be within 1 and num_classes={V}"):
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
def test_a_graph_that_is_kept_gives_its_gradients_again(make):
    model, hidden, targets = example(make, 40)
    nll = model["head"](hidden, targets)
    inputs = [hidden, *model.parameters()]
    take = partial(torch.autograd.grad, inputs=inputs, allow_unused=True, retain_graph=True)
    first = [None if g is None else g.clone() for g in take(nll.mean())]
    for factor in (1.0, 3.0):
        for gradient, again in zip(first, take(factor * nll.mean()), strict=True):
            if gradient is None:
                assert again is None
            else:
                assert_close(again, factor * gradient)
                again.zero_()  # what was given away is the user's


@heads
@pytest.mark.parametrize("weighted", [True, False])
def test_what_is_frozen_leaves_the_other_gradients_as_they_are(make, weighted):
    model, hidden, targets = example(make, 9)
    expected = gradients(model["head"](hidden, targets), model, hidden, weighted=weighted)
    model.requires_grad_(False)
    (of_hidden,) = gradients(model["head"](hidden, targets), nn.Module(), hidden, weighted=weighted)
    assert_close(of_hidden, expected[0])
    model.requires_grad_(True)
    got = gradients(model["head"](hidden.detach(), targets), model, weighted=weighted)
    assert_close(got, expected[1:])


def test_a_frozen_table_costs_no_gradient():
    asked, table = [], torch.randn(V, 8)
    hidden, targets = torch.randn(3, 8, requires_grad=True), torch.randint(V, (3,))
    for frozen in (True, False):
        table.requires_grad_(not frozen)
        room = lambda: asked.append(frozen) or torch.empty(V, 8)  # noqa: B023, E731
        chunked.chunked_nll(hidden, table, None, targets, room).sum().backward()
    assert asked == [False]


@pytest.mark.parametrize("size", [V - 3, V + 3])
@pytest.mark.parametrize(
    "make", [partial(TiedSoftmax, bias=False), partial(AdaptiveSoftmax, cutoffs=[20])]
)
def test_a_head_whose_embedding_was_resized_says_so(make, size):
    table = nn.Embedding(V, 8)
    head, hidden = make(table), torch.randn(2, 8)
    resize(table, size)
    message = f"tied Embedding has num_embeddings={size}, which must equal num_classes={V}"
    for call in (head.log_prob, head.predict, lambda x: head(x, torch.tensor([0, 1]))):
        with pytest.raises(ValueError, match=message):
            call(hidden)


@heads
def test_the_transforms_of_torch_take_a_head(make):
    model, hidden, targets = example(make, 4)
    expected = torch.autograd.grad(model["head"](hidden, targets).sum(), hidden)[0]
    got = torch.func.grad(lambda hidden: model["head"](hidden, targets).sum())(hidden)
    assert_close(got, expected)
    hidden, head = hidden.detach(), model["head"]
    each = torch.func.vmap(head)(hidden[:, None], targets[:, None])
    assert_close(each.squeeze(1), head(hidden, targets))
    for k in (1, 7):
        found = torch.func.vmap(head.topk, (0, None))(hidden, k)
        assert_close(found, head.topk(hidden, k))


@heads
def test_autocast_leaves_float64_as_it_is(make):
    model, hidden, targets = example(make, 4)
    expected = model["head"](hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(model["head"](hidden, targets), expected)


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
        # And one rounding, 2^-8: a table that is computed is rounded on its way too.
        assert (a - c).norm() <= 1.05 * (b - c).norm() + 2**-8 * c.norm()


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
    first = getattr(model["head"], "first_band_only", False)
    for name, parameter in model.named_parameters():
        if first and any(parameter is p for p in unit_parameters(model)):
            continue  # what computes tails serves the input alone
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
