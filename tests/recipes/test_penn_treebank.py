import dataclasses
import functools
import inspect
import math

import pytest
import torch
from tiny import experiment, small_define, write_text
from torch import nn

from define import ProjectedEmbedding
from define.data import Segments, Text
from define.recipes import (
    penn_treebank,
    penn_treebank_fast,
    penn_treebank_finetune,
    penn_treebank_small,
)
from define.training import AveragedSGD, ContinuousCache, Run, Training, cached_nll
from define.training.language_modeling import LanguageModeling


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text", train=20)  # 200 tokens


@pytest.fixture
def vocabulary(tmp_path):
    """A text with the 10,000 words of Penn Treebank."""
    folder = write_text(tmp_path / "words")
    words = [f"word{i}" for i in range(10_000 - 50)]
    with (folder / "train.txt").open("a") as file:
        file.write(" ".join(words * 2) + "\n")  # words that come once are unknown words
    return Text(folder)


def projected(num_embeddings, embedding_dim):
    return ProjectedEmbedding(num_embeddings, embedding_dim, map=128)


def test_published_counts(vocabulary):
    assert len(vocabulary.open().vocabulary) == 10_000
    standard = penn_treebank(vocabulary, nn.Embedding).model.parameter_counts()
    assert standard.total == 24_221_600
    ours = penn_treebank(vocabulary).model.parameter_counts()
    assert ours.total == 19_673_760 + ours.unit
    assert ours.total <= 21_000_000
    narrow = penn_treebank(vocabulary, projected).model
    assert narrow.parameter_counts().total == 19_673_760 + 128 * 400
    assert narrow.backbone.output_size == 128
    assert isinstance(narrow.head.projection, nn.Identity)
    assert narrow.head.tied.module is narrow.embedding.map


@pytest.mark.parametrize("make", [penn_treebank, penn_treebank_fast])
def test_the_last_layer_can_keep_its_width(vocabulary, make):
    model = make(vocabulary, embedding=projected, narrow=False, hidden_size=500).model
    assert [layer.hidden_size for layer in model.backbone.layers] == [500, 500, 400]
    assert tuple(model.head.projection.weight.shape) == (128, 400)


def test_dropouts_and_training_are_the_published_ones(folder):
    setting = penn_treebank(Text(folder), nn.Embedding)
    backbone, training = setting.model.backbone, setting.training
    assert (backbone.input_dropout.p, backbone.dropout.p, backbone.output_dropout.p) == (
        0.4,
        0.25,
        0.4,
    )
    assert {layer.weight_dropout for layer in backbone.layers} == {0.5}
    # Whole words of the table are dropped, the same in all places.
    size = setting.model.embedding.num_embeddings
    rows = setting.model.train().embedding(torch.arange(size).repeat(100))
    dropped = (rows == 0).all(1).view(100, size)
    assert torch.equal(dropped, dropped[:1].expand(100, size)) and 0 < dropped[0].sum() < size
    assert (training.learning_rate, training.clip, training.length) == (30.0, 0.25, 70)
    [group] = training.optimizer(setting.model.parameters()).param_groups
    assert (group["weight_decay"], group["nonmonotone"]) == (1.2e-6, 5)
    uniform = 0.1 / math.sqrt(3)  # the deviation of numbers uniform in ± 0.1
    assert setting.model.embedding.weight.std().item() == pytest.approx(uniform, rel=0.05)


TWO_STEPS = {"epochs": 1, "batch_size": 4, "length": 25, "accelerator": "cpu"}
SMALL = {
    "hidden_size": 20,
    "embedding_dim": 12,
    "output_size": 12,
    "embedding": small_define,
    "cutoffs": (),
}


def two_steps(training, **changes):
    """A recipe's own training, cut to about two steps."""
    return dataclasses.replace(training, **{**TWO_STEPS, "evaluation_batch_size": 4, **changes})


def default(recipe):
    return inspect.signature(recipe).parameters["training"].default


@pytest.fixture
def steps(monkeypatch):
    """How many tokens each step was trained on."""
    lengths, step = [], LanguageModeling.training_step

    @functools.wraps(step)
    def noting(self, batch):
        lengths.append(batch[0].numel())
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    return lengths


@pytest.mark.parametrize("recipe", [penn_treebank, penn_treebank_fast, penn_treebank_small])
@pytest.mark.parametrize("embedding", [None, nn.Embedding, projected])
def test_a_recipe_fits_a_few_steps(recipe, embedding, folder, tmp_path, steps):
    options = {**SMALL, **({"embedding": embedding} if embedding else {})}
    setting = recipe(Text(folder), training=two_steps(default(recipe)), **options)
    summary = setting.train(Run(tmp_path / "run"))
    assert len(steps) >= 2 and sum(steps) == 4 * (199 // 4)
    assert math.isfinite(summary["test_perplexity"])


def test_the_published_model_at_its_full_size_fits_two_steps(folder, tmp_path, steps):
    training = two_steps(default(penn_treebank), random_lengths=False)
    summary = penn_treebank(Text(folder), training=training).train(Run(tmp_path / "run"))
    assert steps == [100, 96]
    assert math.isfinite(summary["test_perplexity"])


def test_finetuning_goes_on_from_the_best_weights(folder, tmp_path, monkeypatch):
    first = Run(tmp_path / "first")
    penn_treebank(Text(folder), training=two_steps(default(penn_treebank)), **SMALL).train(first)
    first.config.touch()
    training = two_steps(default(penn_treebank_finetune), epochs=2, learning_rate=1.0)
    seen, step = [], LanguageModeling.training_step

    @functools.wraps(step)
    def noting(self, batch):
        seen.append([p.detach().clone() for p in self.model.parameters()])
        optimizer = self.trainer.optimizers[0]
        assert isinstance(optimizer, AveragedSGD) and optimizer.averaged == len(seen) - 1
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    make = functools.partial(penn_treebank_finetune, Text(folder), training=training, **SMALL)
    setting = make(start_from=first.path)
    expected = make(start_from=first.path).model
    first.load_weights(expected)
    setting.train(Run(tmp_path / "second"))
    assert all(torch.equal(a, b) for a, b in zip(seen[0], expected.parameters(), strict=True))


def test_finetuning_keeps_weights_that_it_only_makes_worse(folder, tmp_path):
    first, second = Run(tmp_path / "first"), Run(tmp_path / "second")
    learned = two_steps(default(penn_treebank), learning_rate=5.0, epochs=4, random_lengths=False)
    penn_treebank(Text(folder), training=learned, **SMALL).train(first)
    first.config.touch()
    # So large a rate that the weights are spoilt by the first step.
    training = two_steps(default(penn_treebank_finetune), learning_rate=1e4, clip=1.0)
    make = functools.partial(penn_treebank_finetune, Text(folder), training=training, **SMALL)
    setting = make(start_from=first.path)
    summary = setting.train(second)
    kept = make(start_from=first.path)
    first.load_weights(kept.model)
    before = kept.evaluate("valid").perplexity
    assert [tokens for tokens, _ in summary["history"]] == [summary["tokens"]]
    assert summary["history"][0][1] > before
    assert summary["valid_perplexity"] == pytest.approx(before)
    weights = zip(setting.model.parameters(), kept.model.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in weights)


def test_what_cannot_be_started_from_is_named(folder, tmp_path, monkeypatch):
    first = Run(tmp_path / "first")
    make = functools.partial(penn_treebank_finetune, training=two_steps(Training()), **SMALL)
    with pytest.raises(ValueError, match="start_from=None"):
        make(Text(folder))
    penn_treebank(Text(folder), training=two_steps(Training()), **SMALL).train(first)
    first.config.touch()

    def trained(*_):
        raise AssertionError("it was trained")

    monkeypatch.setattr(LanguageModeling, "training_step", trained)
    run = Run(tmp_path / "run")
    with pytest.raises(FileNotFoundError, match="nowhere is no trained run"):
        make(Text(folder), start_from=tmp_path / "nowhere").train(run)
    other = functools.partial(make, **{**SMALL, "hidden_size": 21})
    with pytest.raises(ValueError, match=r"first.* does not fit the model"):
        other(Text(folder), start_from=first.path).train(run)
    with (folder / "train.txt").open("a") as file:
        file.write("another another word word\n")
    with pytest.raises(ValueError, match=r"first.* has 42 words .*, the text 44 .*another run"):
        make(Text(folder), start_from=first.path).train(Run(tmp_path / "third"))


def test_evaluation_with_a_cache(folder, tmp_path):
    run, setting = Run(tmp_path / "run"), experiment(folder, learning_rate=0.02)
    setting.train(run)
    plain = setting.evaluate("valid", batch_size=1).perplexity
    weightless = setting.evaluate("valid", batch_size=1, cache=ContinuousCache(weight=0.0))
    assert weightless.perplexity == pytest.approx(plain)
    tuned = setting.evaluate("valid", batch_size=1, cache=ContinuousCache(size=50), tune_cache=True)
    best = tuned.cache
    assert best.size == 50
    untuned = setting.evaluate("valid", batch_size=1, cache=ContinuousCache(50))
    assert tuned.perplexity <= untuned.perplexity
    segments = Segments(setting.data.open().split("valid"), 1, 5, drop_last=False)
    nll = cached_nll(setting.model, segments, 50, [best.theta], [best.weight])
    assert tuned.perplexity == pytest.approx(math.exp(nll))
