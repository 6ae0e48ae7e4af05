"""The language model: its parts fit, state carries on, and it writes."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from define import (
    LSTM,
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    DeFINE,
    LanguageModel,
    ProjectedEmbedding,
    Softmax,
    TiedSoftmax,
    TransformerXL,
)

V = 40


def define_lstm():
    embedding = DeFINE(V, 12, map=8, expand_dim=32, depth=2, max_groups=4)
    head = TiedSoftmax(embedding.map, in_features=10)
    return LanguageModel(embedding, LSTM(12, 9, 2, output_size=10), head)


def standard_lstm():
    embedding = nn.Embedding(V, 12)
    return LanguageModel(embedding, LSTM(12, 9, 2, output_size=12), TiedSoftmax(embedding))


def projected_lstm():
    embedding = ProjectedEmbedding(V, 12, map=4)
    return LanguageModel(embedding, LSTM(12, 9, 1), Softmax(9, V))


def adaptive_transformer():
    embedding = AdaptiveEmbedding(V, 8, cutoffs=[10, 20], div_value=2)
    backbone = TransformerXL(8, 2, num_heads=2, head_dim=4, memory_length=50, dropout=0.0)
    return LanguageModel(embedding, backbone, AdaptiveSoftmax(embedding))


MODELS = [define_lstm, standard_lstm, projected_lstm, adaptive_transformer]
models = pytest.mark.parametrize("make", MODELS)


def sharpened(make):
    """In evaluation mode, with logits large enough that words differ in likelihood."""
    model = make().eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.7)
    return model


@models
def test_the_loss_is_that_of_the_parts_in_a_row(make):
    model = sharpened(make)
    tokens, targets = torch.randint(V, (2, 3, 7))
    loss, _ = model(tokens, targets)
    y, _ = model.backbone(model.embedding(tokens), None)
    assert loss.shape == (3, 7)
    expected = -model.head.log_prob(y).gather(-1, targets[..., None]).squeeze(-1)
    assert_close(loss, expected)


@models
def test_two_halves_with_carried_state_are_one_whole(make):
    model = sharpened(make).double()
    tokens, targets = torch.randint(V, (2, 3, 8))
    whole, _ = model(tokens, targets)
    first, state = model(tokens[:, :5], targets[:, :5])
    second, _ = model(tokens[:, 5:], targets[:, 5:], state)
    assert_close(torch.cat([first, second], 1), whole)


@models
def test_training_lowers_the_loss(make):
    model = make()
    tokens, targets = torch.randint(V, (2, 4, 10))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(30):
        loss, _ = model(tokens, targets)
        losses.append(loss.mean().item())
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (nn.Embedding(V, 12), LSTM(11, 9, 1), Softmax(9, V)),
            "embedding.embedding_dim=12 must equal backbone.input_size=11",
        ),
        (
            (nn.Embedding(V, 12), LSTM(12, 9, 1), Softmax(8, V)),
            "backbone.output_size=9 must equal head.in_features=8",
        ),
        (
            (nn.Embedding(V, 12), LSTM(12, 9, 1), Softmax(9, V + 1)),
            "embedding.num_embeddings=40 must equal head.num_classes=41",
        ),
    ],
    ids=["input", "output", "vocabulary"],
)
def test_parts_that_do_not_fit_are_refused_with_both_values(parts, message):
    with pytest.raises(ValueError, match=message):
        LanguageModel(*parts)


@models
@pytest.mark.parametrize("new", [0, 1, 6])
@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"temperature": 0.0}], ids=str)
def test_generated_tokens_have_their_shape_and_are_words(make, new, options):
    tokens = sharpened(make).generate(torch.randint(V, (3, 4)), new, **options)
    assert tokens.shape == (3, new) and tokens.dtype == torch.int64
    assert ((tokens >= 0) & (tokens < V)).all()


@models
def test_greedy_generation_takes_the_likeliest_next_word_each_time(make):
    model = sharpened(make)
    prompt = torch.randint(V, (2, 4))
    new = model.generate(prompt, 5, temperature=0)
    assert torch.equal(new, model.generate(prompt, 5, temperature=0))
    text = prompt
    for _ in range(5):  # the whole text anew each time, without any carried state
        hidden, _ = model.hidden(text)
        text = torch.cat([text, model.head.predict(hidden[:, -1:])], 1)
    assert torch.equal(new, text[:, 4:])


@models
def test_samples_are_reproducible_from_their_generator(make):
    model = sharpened(make)
    prompt = torch.randint(V, (4, 3))

    def sample(seed, **options):
        generator = torch.Generator().manual_seed(seed)
        return model.generate(prompt, 12, generator=generator, temperature=2.0, **options)

    for options in ({}, {"top_k": 10}):
        assert torch.equal(sample(1, **options), sample(1, **options))
        assert not torch.equal(sample(1, **options), sample(2, **options))


@models
def test_samples_stay_within_the_k_likeliest(make):
    model = sharpened(make)
    prompt = torch.randint(V, (1, 3)).expand(300, -1)
    hidden, _ = model.hidden(prompt[:1])
    best = model.head.topk(hidden[:, -1], 4)[1].flatten().tolist()
    new = model.generate(prompt, 1, top_k=4, temperature=50.0)  # nearly uniform
    assert set(new.flatten().tolist()) == set(best)
    assert torch.equal(model.generate(prompt, 3, top_k=1), model.generate(prompt, 3, temperature=0))


@models
@pytest.mark.parametrize("temperature", [1.0, 0.5, 2.0])
@pytest.mark.parametrize("top_k", [None, V])
def test_samples_follow_the_tempered_probabilities(make, temperature, top_k):
    model = sharpened(make)
    prompt = torch.randint(V, (1, 3))
    hidden, _ = model.hidden(prompt)
    p = (model.head.log_prob(hidden[0, -1]) / temperature).softmax(-1)
    count = 4000
    new = model.generate(prompt.expand(count, -1), 1, temperature=temperature, top_k=top_k)
    seen = new.flatten().bincount(minlength=V) / count
    assert (seen - p).abs().max() < 5 * (0.25 / count) ** 0.5


def test_nothing_can_be_generated_from_nothing_or_with_nonsense():
    model = standard_lstm()
    with pytest.raises(ValueError, match=r"tokens \(2, 0\) must hold at least one token"):
        model.generate(torch.empty(2, 0, dtype=torch.int64), 3)
    for temperature in (-1.0, float("nan")):
        with pytest.raises(ValueError, match=f"{temperature=}"):
            model.generate(torch.zeros(1, 1, dtype=torch.int64), 3, temperature=temperature)
    with pytest.raises(ValueError, match="k=0 must be within"):
        model.generate(torch.zeros(1, 1, dtype=torch.int64), 3, top_k=0)
    with pytest.raises(ValueError, match="max_new_tokens=-1"):
        model.generate(torch.zeros(1, 1, dtype=torch.int64), -1)
    for wrong in (-1, V):
        with pytest.raises(ValueError, match=rf"banned=\[{wrong}\] must be ids within {V}"):
            model.generate(torch.zeros(1, 1, dtype=torch.int64), 1, banned=[wrong])


@models
def test_counts_add_up_and_what_is_computed_is_the_unit(make):
    model = make()
    counts = model.parameter_counts()
    assert counts.total == sum(p.numel() for p in model.parameters())
    assert counts.context == sum(p.numel() for p in model.backbone.parameters())
    if make is define_lstm:
        unit = [*model.embedding.expand.parameters(), *model.embedding.reduce.parameters()]
        assert counts.unit == sum(p.numel() for p in unit) > 0
        assert counts.input_output == V * 8 + 10 * 8 + V  # Map, own projection, biases
    elif make is projected_lstm:
        assert counts.unit == model.embedding.projection.weight.numel()
    else:
        assert counts.unit == 0


def test_a_head_tied_to_another_embedding_is_refused():
    embedding, other = nn.Embedding(9, 4), nn.Embedding(9, 4)
    with pytest.raises(ValueError, match="tied to a module \\(Embedding\\) that is not part"):
        LanguageModel(embedding, LSTM(4, 4, 1), TiedSoftmax(other))
