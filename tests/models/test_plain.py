"""A model as operations of torch alone gives what it gave."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import (
    LSTM,
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    Backbone,
    DeFINE,
    LanguageModel,
    Softmax,
    TiedSoftmax,
    TransformerXL,
)
from define.models.plain import plain_step, start_state

V, M = 50, 12
# Checked annotations cannot be traced.
pytestmark = pytest.mark.usefixtures("unchecked")


def unit(map):
    return DeFINE(V, M, map=map, expand_dim=16, depth=2, max_groups=2)


def adaptive():
    return AdaptiveEmbedding(V, M, cutoffs=[10, 20], div_value=2)


CASES = {
    "standard": (lambda: nn.Embedding(V, M), TiedSoftmax),
    "map": (lambda: unit(8), lambda e: TiedSoftmax(e.map, M)),
    "computed": (lambda: unit(8), TiedSoftmax),
    "bands": (lambda: unit(adaptive()), lambda e: AdaptiveSoftmax(e.map)),
    "first-band": (lambda: unit(adaptive()), lambda e: AdaptiveSoftmax(e, first_band_only=True)),
}
BACKBONES = {
    "lstm": lambda: LSTM(M, 14, 2, output_size=M, dropout=0.5),
    "transformer-xl": lambda: TransformerXL(M, 2, num_heads=2, head_dim=4, memory_length=3),
}


@pytest.mark.parametrize(
    ("case", "backbone"),
    [*((case, "lstm") for case in CASES), ("computed", "transformer-xl")],
)
def test_step_by_step_it_gives_the_same(case, backbone):
    make, tie = CASES[case]
    embedding = make()
    model = LanguageModel(embedding, BACKBONES[backbone](), tie(embedding)).eval()
    step, axes = plain_step(model)
    assert all(1 in found for found in axes)
    tokens = torch.randint(V, (3, 6))
    state, theirs = None, start_state(model, 3)
    for column in tokens.split(1, 1):  # beyond the length of the memory
        hidden, state = model.hidden(column, state)
        found, *theirs = step(column[:, 0], *theirs)
        assert_close(found, model.head.log_prob(hidden[:, 0]))
    assert not any("expand" in name for name, _ in step.named_parameters())


@pytest.mark.parametrize("case", ["standard", "computed"])
def test_input_and_output_that_are_one_table_stay_one(case):
    make, tie = CASES[case]
    embedding = make()
    model = LanguageModel(embedding, BACKBONES["lstm"](), tie(embedding))
    step, _ = plain_step(model)
    others = [*model.backbone.parameters(), *model.head.parameters()]
    assert sum(p.numel() for p in step.parameters()) == V * M + sum(p.numel() for p in others)


class Both(Backbone):
    """Reads by a square matrix, by its transpose and by its first row."""

    def __init__(self):
        super().__init__(M, M)
        self.weight = nn.Parameter(torch.randn(M, M))

    def segment(self, x, state):
        state = x.new_zeros(1, len(x), M) if state is None else state
        y = x @ self.weight + 2 * x @ self.weight.T + 3 * x @ self.weight[:1].T + state[0, :, None]
        return y, state + x.sum(1)


class Alike(Backbone):
    """Has parameters whose names differ in dots alone."""

    def __init__(self):
        super().__init__(M, M)
        self.first = nn.ParameterDict({"in_bias": torch.randn(M)})
        self.first_in = nn.ParameterDict({"bias": torch.randn(M)})

    def segment(self, x, state):
        state = x.new_zeros(1, len(x), M) if state is None else state
        return x * self.first["in_bias"] + self.first_in["bias"], state + x.sum(1)


@pytest.mark.parametrize("backbone", [Both, Alike])
def test_two_parameters_stay_two(backbone):
    model = LanguageModel(nn.Embedding(V, M), backbone(), Softmax(M, V)).eval()
    step, _ = plain_step(model)
    tokens = torch.randint(V, (3,))
    found, _ = step(tokens, *start_state(model, 3))
    assert_close(found, model.head.log_prob(model.hidden(tokens[:, None])[0][:, 0]))


class InPlace(Both):
    def segment(self, x, state):
        total = torch.zeros(M)
        total[1:] += x.sum((0, 1))[1:]
        y, state = super().segment(x, state)
        return y + total, state


def test_what_a_step_would_write_into_itself_is_refused():
    model = LanguageModel(nn.Embedding(V, M), InPlace(), Softmax(M, V))
    with pytest.raises(ValueError, match=r"aten.add_.Tensor writes into a constant"):
        plain_step(model)
