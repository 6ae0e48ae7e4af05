"""Laws of Transformer-XL, in float64 and against the formula written out."""

import copy
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from define.models.transformer_xl import TransformerXL, _sinusoids

torch.set_num_threads(1)


def build(**options) -> TransformerXL:
    """A small model in float64; its weights are large enough that attention is not uniform."""
    options = {"num_heads": 2, "head_dim": 3, "memory_length": 100, "dropout": 0.0} | options
    torch.manual_seed(0)
    model = TransformerXL(6, options.pop("depth", 2), inner_dim=8, **options).double()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def segment(time: int, batch: int = 2) -> torch.Tensor:
    return torch.randn(batch, time, 6, dtype=torch.float64)


def distance_encoding(distance: int, width: int) -> torch.Tensor:
    """R of one distance: sin and cos of distance / 10000^(2 i / width)."""
    angles = [distance / 10_000 ** (2 * i / width) for i in range(math.ceil(width / 2))]
    values = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values[:width], dtype=torch.float64)


def attention_written_out(attention, x, context, u, v, window=None, clamp=None):
    """Section 3.3 of Dai et al. 2019, one pair of positions at a time."""
    (batch, time, width), keys = x.shape, context.shape[1]
    heads, dim = attention.num_heads, attention.head_dim
    memory = keys - time
    w_k, w_v = attention.key_value.weight.chunk(2)
    y = torch.empty(batch, time, heads * dim, dtype=x.dtype)
    for b in range(batch):
        for h in range(heads):
            rows = slice(h * dim, (h + 1) * dim)
            for i in range(time):
                query = attention.query.weight[rows] @ x[b, i]
                scores, values = [], []
                for j in range(keys):
                    distance = memory + i - j
                    if distance < 0 or (window is not None and distance >= max(window, 1)):
                        continue
                    key = w_k[rows] @ context[b, j]
                    r = distance_encoding(min(distance, clamp or distance), width)
                    position = attention.position.weight[rows] @ r
                    scores.append(((query + u[h]) @ key + (query + v[h]) @ position) / dim**0.5)
                    values.append(w_v[rows] @ context[b, j])
                y[b, i, rows] = torch.stack(scores).softmax(0) @ torch.stack(values)
    return attention.output(y)


sizes = {
    "time": st.integers(1, 6),
    "memory": st.integers(0, 6),
    "heads": st.integers(1, 3),
    "dim": st.integers(1, 5),
    "width": st.integers(1, 7),
}


@settings(deadline=None, max_examples=25)
@given(**sizes, window=st.none() | st.integers(0, 5), clamp=st.none() | st.integers(1, 4))
def test_attention_is_the_written_out_formula(time, memory, heads, dim, width, window, clamp):
    torch.manual_seed(0)
    model = TransformerXL(width, 1, num_heads=heads, head_dim=dim, clamp_length=clamp).double()
    model.eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter)
    if window is not None:
        model.same_length, model.memory_length = True, window
    layer = model.layers[0]
    layer.attention_norm = layer.feedforward_norm = nn.Identity()
    nn.init.zeros_(layer.feedforward[-1].weight)
    nn.init.zeros_(layer.feedforward[-1].bias)
    x = torch.randn(2, time, width, dtype=torch.float64, requires_grad=True)
    state = torch.randn(1, 2, memory, width, dtype=torch.float64)
    y, _ = model(x, state)
    context = torch.cat((state[0], x), dim=1)
    u, v = model.content_bias, model.position_bias
    expected = x + attention_written_out(layer.attention, x, context, u, v, window, clamp)
    torch.testing.assert_close(y, expected)
    weights = (layer.attention.key_value.weight, layer.attention.position.weight)
    inputs = (x, u, v, *weights)
    gradients = torch.autograd.grad(y.square().sum(), inputs)
    torch.testing.assert_close(gradients, torch.autograd.grad(expected.square().sum(), inputs))


@settings(deadline=None, max_examples=20)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), pre_norm=st.booleans())
def test_segments_with_memory_equal_one_segment(lengths, pre_norm):
    model = build(pre_norm=pre_norm)
    x = segment(sum(lengths))
    whole, whole_state = model(x)
    parts, state = [], None
    for part in x.split(lengths, dim=1):
        y, state = model(part, state)
        parts.append(y)
    torch.testing.assert_close(torch.cat(parts, dim=1), whole)
    torch.testing.assert_close(state, whole_state)


@pytest.mark.parametrize("memory_length", [0, 1, 3])
def test_same_length_does_not_depend_on_the_cut(memory_length):
    model = build(memory_length=memory_length, same_length=True).eval()
    x = segment(9)
    whole, _ = model(x)
    for lengths in ([4, 5], [1, 2, 6], [1] * 9):
        parts, state = [], None
        for part in x.split(lengths, dim=1):
            y, state = model(part, state)
            parts.append(y)
        torch.testing.assert_close(torch.cat(parts, dim=1), whole)


def test_same_length_gives_every_query_the_same_number_of_keys():
    model = build(depth=1, memory_length=4, same_length=True).eval()
    mask = model._mask(6, 10, torch.empty(0))
    assert mask.exp().sum(dim=1).tolist() == [4] * 6
    for changed in ({"same_length": False}, {"training": True}):
        other = copy.copy(model)
        vars(other).update(changed)
        assert other._mask(6, 10, torch.empty(0)).exp().sum(dim=1).tolist() == [5, 6, 7, 8, 9, 10]


@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 5), min_size=1, max_size=4), reach=st.integers(0, 12))
def test_evaluation_with_another_memory(lengths, reach):
    """It is that of a model made with that memory, and training keeps its own."""
    options = {"memory_length": 3, "same_length": True, "clamp_length": 4}
    model = build(**options, evaluation_memory_length=reach).eval()
    reference = build(**(options | {"memory_length": reach})).eval()
    state = reference_state = None
    for x in segment(sum(lengths)).split(lengths, dim=1):
        y, state = model(x, state)
        expected, reference_state = reference(x, reference_state)
        torch.testing.assert_close((y, state), (expected, reference_state), rtol=0, atol=0)
    assert state.shape[2] == min(reach, sum(lengths))
    assert model.train()(segment(7))[1].shape[2] == 3


def test_a_longer_memory_is_read():
    model = build(depth=1, memory_length=2, evaluation_memory_length=6).eval()
    x = segment(8, batch=1)
    _, state = model(x[:, :7])
    moved = state.clone()
    moved[:, :, 0] += 1
    assert state.shape[2] == 6
    assert not torch.allclose(model(x[:, 7:], state)[0], model(x[:, 7:], moved)[0])


@pytest.mark.parametrize("pre_norm", [False, True])
def test_input_scale(pre_norm):
    model, scaled = build(pre_norm=pre_norm), build(pre_norm=pre_norm, input_scale=3.0)
    x = segment(4)
    torch.testing.assert_close(scaled(x), model(3.0 * x))


def test_device_and_dtype():
    model = TransformerXL(6, 2, num_heads=2, head_dim=3, pre_norm=True, dtype=torch.float64)
    assert {p.dtype for p in model.parameters()} == {torch.float64}
    model = TransformerXL(6, 2, num_heads=2, head_dim=3, pre_norm=True, device="meta")
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.empty(2, 3, 6, device="meta"))[0].shape == (2, 3, 6)


def test_memory_is_cut_detached_and_of_any_length():
    model = build(memory_length=4)
    x = segment(3).requires_grad_()
    _, state = model(x)
    assert state.shape == (2, 2, 3, 6) and not state.requires_grad
    torch.testing.assert_close(state[0], x.detach())
    y, state = model(segment(3), state)
    assert state.shape == (2, 2, 4, 6)
    assert torch.autograd.grad(y.sum(), x, allow_unused=True) == (None,)
    model.memory_length = 0
    y, state = model(segment(3), state)
    assert state.shape == (2, 2, 0, 6)
    model.memory_length = 50
    assert model(segment(3), torch.cat([model(segment(7))[1]] * 3, dim=2))[1].shape[2] == 24


@pytest.mark.parametrize("pre_norm", [False, True])
@pytest.mark.parametrize("memory", [0, 3])
def test_no_output_sees_the_future(memory, pre_norm):
    model = build(pre_norm=pre_norm)
    state = torch.randn(2, 1, memory, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: model(x, state)[0].sum(-1)[0], segment(5, batch=1)
    )
    reach = jacobian[:, 0].abs().sum(-1)  # (T out, T in)
    assert (reach.triu(1) == 0).all()
    assert (reach.tril() > 0).sum() == 15


def test_published_initialization():
    torch.manual_seed(0)
    model = TransformerXL(64, depth=2)
    for name, parameter in model.named_parameters():
        if "norm.weight" in name:
            assert abs(parameter.mean() - 1) < 0.02 and abs(parameter.std() - 0.02) < 0.01
        elif parameter.dim() == 1:
            assert parameter.count_nonzero() == 0
        else:
            assert abs(parameter.mean()) < 0.005 and abs(parameter.std() - 0.02) < 0.005


def test_copies_and_round_trip():
    model, x = build(), segment(4)
    y, state = model(x)
    y.sum().backward()
    torch.testing.assert_close(copy.deepcopy(model)(x), (y, state), rtol=0, atol=0)
    other = TransformerXL(6, 2, num_heads=2, head_dim=3, inner_dim=8, dropout=0.0).double()
    other.load_state_dict(model.state_dict())
    torch.testing.assert_close(other(x), (y, state), rtol=0, atol=0)
    assert (
        model.extra_repr() == "6, depth=2, memory_length=100, evaluation_memory_length=None, "
        "same_length=False, clamp_length=None"
    )
    assert model.input_size == model.output_size == 6


def test_dropout_only_in_training():
    model, x = build(dropout=0.5, attention_dropout=0.5), segment(4)
    assert not torch.equal(model(x)[0], model(x)[0])
    model.eval()
    torch.testing.assert_close(model(x)[0], build()(x)[0], rtol=0, atol=0)


@pytest.mark.parametrize("pre_norm", [False, True])
def test_bfloat16(pre_norm):
    torch.manual_seed(0)
    model = TransformerXL(64, depth=3, pre_norm=pre_norm).eval()
    x = torch.randn(2, 20, 64)
    state = torch.randn(3, 2, 10, 64)
    expected, _ = model(x, state)
    with torch.autocast("cpu", torch.bfloat16):
        y, new_state = model(x, state)
        model(y.bfloat16(), new_state)[0].float().sum().backward()
    assert (y - expected).abs().max() < 0.05
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    low = copy.deepcopy(model).bfloat16()
    y, new_state = low(x.bfloat16(), state.bfloat16())
    assert y.dtype == new_state.dtype == torch.bfloat16
    assert (y - expected).abs().max() < 0.1


def test_distances_stay_exact_in_bfloat16():
    model = TransformerXL(16, depth=1)
    encoding = model._encoding(2000, torch.empty(0, dtype=torch.bfloat16))
    exact = _sinusoids(torch.arange(2000.0, -1, -1), 16)
    torch.testing.assert_close(encoding, exact.bfloat16())


@pytest.mark.skipif(
    hasattr(TransformerXL.forward, "__wrapped__"), reason="jaxtyping's import hook does not compile"
)
def test_compiles_whole():
    model, x = build(), segment(4)
    _, state = model(x)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, state), model(x, state))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_cuda_takes_a_fused_kernel_and_agrees(dtype):
    torch.manual_seed(0)
    model = TransformerXL(64, depth=1, num_heads=2, head_dim=41).eval()
    x, state = torch.randn(2, 13, 64), torch.randn(1, 2, 6, 64)
    expected = model(x, state)[0].detach()
    model = model.to("cuda", dtype)
    fused = torch.nn.attention.SDPBackend.EFFICIENT_ATTENTION
    with torch.nn.attention.sdpa_kernel(fused):
        y, _ = model(x.to("cuda", dtype), state.to("cuda", dtype))
    y.sum().backward()
    tolerance = 1e-3 if dtype == torch.float32 else 0.1
    assert (y.float().cpu() - expected).abs().max() < tolerance


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"depth": 0}, "depth=0"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"head_dim": -1}, "head_dim=-1"),
        ({"memory_length": -1}, "memory_length=-1"),
        ({"evaluation_memory_length": -2}, "evaluation_memory_length=-2"),
        ({"clamp_length": -1}, "clamp_length=-1"),
        ({"dropout": 1.0}, "dropout=1.0"),
        ({"attention_dropout": -0.1}, "attention_dropout=-0.1"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        TransformerXL(6, **({"depth": 1} | options))


def test_bad_inputs():
    model = build()
    with pytest.raises(ValueError, match=r"x \(2, 3, 5\) must be .* input_size=6"):
        model(torch.randn(2, 3, 5, dtype=torch.float64))
    for shape in [(3, 2, 4, 6), (2, 1, 4, 6), (2, 2, 4, 5)]:
        with pytest.raises(ValueError, match=r"must have shape \(2, 2, 4, 6\)"):
            model(segment(3), torch.randn(shape, dtype=torch.float64))
