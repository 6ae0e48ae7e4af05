"""Where shapes cannot depend on data: compiled, exported, mapped, without values."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from laws import randomize
from makers import OURS, M, V, adaptive
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.func import functional_call, grad, vmap
from torch.testing import assert_close

import define

our_embeddings = pytest.mark.parametrize("make", OURS.values(), ids=OURS)
IDS = torch.tensor([[3, 9, 3], [V - 1, 0, 21]])


@our_embeddings
@pytest.mark.parametrize("copies", [1, 30])  # fewer ids than words, and more
def test_vmap_gives_the_same_rows(make, copies):
    embedding = randomize(make(V, M, padding_idx=9))
    ids = IDS.repeat(1, copies)
    assert_close(vmap(embedding)(ids), embedding(ids))


@our_embeddings
def test_gradients_of_each_sample(make):
    embedding = randomize(make(V, M, padding_idx=9)).double()
    parameters = dict(embedding.named_parameters())

    def loss(parameters, ids):
        return functional_call(embedding, parameters, (ids,)).square().sum()

    each = vmap(grad(loss), (None, 0))(parameters, IDS)
    for i, ids in enumerate(IDS):
        one = torch.autograd.grad(
            embedding(ids).square().sum(), list(parameters.values()), materialize_grads=True
        )
        assert_close([gradient[i] for gradient in each.values()], list(one))


@our_embeddings
def test_without_values_there_are_shapes(make):
    embedding = make(V, M, device="meta")
    assert embedding(IDS.to("meta")).shape == (2, 3, M)
    assert embedding.weight.shape == (V, M) and embedding.weight.is_meta
    embedding = make(V, M)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert embedding(mode.from_tensor(IDS)).shape == (2, 3, M)


@pytest.mark.parametrize("id_", [-1, V])
def test_an_id_out_of_range_is_no_row_there_either(id_):
    with pytest.raises((IndexError, RuntimeError)):
        adaptive(V, M).traced_rows(torch.tensor([3, id_]))


_SCRIPT = """
import warnings
import torch
from makers import HEADS, OURS, V, M
torch.set_num_threads(1)
torch.set_default_dtype(torch.float64)  # else sums of another order differ by 1e-5
warnings.simplefilter("ignore")
ids = torch.tensor([[3, 9, 3], [V - 1, 0, 21]])
axes = ({0: torch.export.Dim("batch"), 1: torch.export.Dim("time")},)
for name in CASES:
    torch._dynamo.reset()
    embedding = OURS[name](V, M, padding_idx=9).eval()
    compiled = torch.compile(embedding, fullgraph=True, backend="aot_eager")
    for given in (ids, ids.repeat(1, 30)):
        torch.testing.assert_close(compiled(given), embedding(given))
    compiled = torch.compile(lambda x: x @ embedding.weight.T, fullgraph=True, backend="eager")
    x = torch.randn(2, M)
    torch.testing.assert_close(compiled(x), x @ embedding.weight.T)
    exported = torch.export.export(embedding, (ids,), dynamic_shapes=axes).module()
    torch.testing.assert_close(exported(ids.T), embedding(ids.T))
    print("same", name)
for name in HEAD_CASES:
    torch._dynamo.reset()
    model = HEADS[name]().eval()
    hidden, ids = torch.randn(5, model["head"].in_features), torch.randint(V, (5,))
    compiled = torch.compile(model["head"].log_prob, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(hidden), model["head"].log_prob(hidden))
    model.train()
    step = lambda h, i: model["head"](h, i) + model["embedding"](i).square().sum()
    losses = [torch.compile(step, backend="aot_eager")(hidden, ids), step(hidden, ids)]
    torch.testing.assert_close(*losses)
    parameters = list(model.parameters())
    found = [torch.autograd.grad(x.sum(), parameters, materialize_grads=True) for x in losses]
    torch.testing.assert_close(*found)
    print("same", name)
"""


def test_compiled_and_exported_they_give_the_same_rows():
    """In a process of its own: jaxtyping's import hook does not compile."""
    cases = [
        "projected-bias",
        "adaptive",
        "banded-of-three",
        "define",
        "define-of-adaptive",
        "hash",
    ]
    heads = ["tied-to-define", "adaptive-of-define", "adaptive-of-bands-first"]
    paths = [str(Path(define.__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        [sys.executable, "-c", f"CASES, HEAD_CASES = {cases}, {heads}\n{_SCRIPT}"],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        text=True,
        check=False,
    )
    expected = [f"same {name}" for name in cases + heads]
    assert done.stdout.splitlines() == expected, done.stderr[-3000:]
