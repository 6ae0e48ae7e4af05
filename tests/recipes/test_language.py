import math

import pytest
import torch
from tiny import WORDS, experiment, small_define
from torch import nn

from define import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    DeFINE,
    Embedding,
    ProjectedEmbedding,
    TiedSoftmax,
)
from define.data import PyDocs, Segments, Text
from define.recipes import pydocs, text
from define.training import Run, Training, mean_nll
from define.training.language_modeling import LanguageModeling


@pytest.fixture
def steps(monkeypatch):
    """The shapes of the batches trained on."""
    shapes, step = [], LanguageModeling.training_step

    def noting(self, batch):
        shapes.append(tuple(batch[0].shape))
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    return shapes


TWO_STEPS = Training(epochs=1, batch_size=4, length=250, evaluation_batch_size=4, accelerator="cpu")


def adaptive(num_embeddings, embedding_dim):
    return AdaptiveEmbedding(num_embeddings, embedding_dim, cutoffs=[10, 30], div_value=2)


def projected(num_embeddings, embedding_dim):
    return ProjectedEmbedding(num_embeddings, embedding_dim, map=4)


def define_on_adaptive(num_embeddings, embedding_dim):
    map = AdaptiveEmbedding(num_embeddings, 8, cutoffs=[10, 30], div_value=2, map_dim=8)
    return DeFINE(num_embeddings, embedding_dim, map=map, expand_dim=16, depth=2, max_groups=2)


def test_a_recipe_as_it_is_fits_two_steps(folder, tmp_path, steps):
    summary = text(Text(folder), training=TWO_STEPS).train(Run(tmp_path / "run"))
    assert steps == [(4, 250), (4, 249)]
    assert summary["embedding"] == "ProjectedEmbedding"
    assert 1 < summary["valid_perplexity"] < 1000 and 1 < summary["test_perplexity"] < 1000


def test_text_begins_with_a_matrix_on_an_adaptive_map_that_starts_from_the_text(folder):
    experiment = text(Text(folder))
    embedding = experiment.model.embedding
    assert isinstance(embedding, ProjectedEmbedding)
    assert isinstance(embedding.map, AdaptiveEmbedding) and embedding.map.cutoffs == (5, 17)
    assert isinstance(experiment.model.head, AdaptiveSoftmax)
    assert experiment.training.start_from_text


def test_pydocs_fits_two_steps(tmp_path, monkeypatch, steps):
    lines = [" ".join(WORDS[i : i + 9]) for i in range(0, 48, 3)]
    monkeypatch.setattr("define.data.pydocs.documents", lambda _: iter([lines] * 20))
    experiment = pydocs(PyDocs(max_size=40), training=TWO_STEPS)
    assert experiment.model.head.num_classes == 40
    summary = experiment.train(Run(tmp_path / "run"))
    assert len(steps) > 1 and math.isfinite(summary["test_perplexity"])


@pytest.mark.parametrize("cutoffs", [(), (10, 30)], ids=["", "adaptive-softmax"])
@pytest.mark.parametrize(
    "embedding", [nn.Embedding, projected, adaptive, small_define, define_on_adaptive]
)
def test_every_embedding_fits_with_every_output(embedding, cutoffs, folder, tmp_path):
    setting = experiment(folder, embedding, cutoffs=cutoffs, length=100, learning_rate=0.02)
    model = setting.model
    valid = Segments(setting.data.open().split("valid"), 4, 100, drop_last=False)
    before = math.exp(mean_nll(model, valid))
    summary = setting.train(Run(tmp_path / "run"))
    bands = cutoffs or embedding in (adaptive, define_on_adaptive)
    assert isinstance(model.head, AdaptiveSoftmax if bands else TiedSoftmax)
    assert summary["valid_perplexity"] < before
    counts = model.parameter_counts()
    assert counts.total == sum(parameter.numel() for parameter in model.parameters())
    assert summary["input_output"] == counts.input_output
    assert (summary["unit"] > 0) == hasattr(model.embedding, "map")


@pytest.mark.parametrize("embedding", [nn.Embedding, projected, adaptive, small_define])
def test_the_output_reads_the_table_of_the_input(embedding, folder):
    model = experiment(folder, embedding).model
    table = getattr(model.embedding, "map", model.embedding)
    assert model.head.tied.module is table
    assert not any(name.startswith("head.tied") for name in model.state_dict())


@pytest.mark.parametrize("embedding", [nn.Embedding, projected, small_define])
def test_every_embedding_starts_at_the_same_scale(embedding, folder):
    setting = text(Text(folder), embedding=embedding, embedding_dim=64, embedding_std=0.3)
    weight = setting.model.embedding.weight
    assert weight.std().item() == pytest.approx(0.3, rel=0.25)


def test_the_seed_decides_the_initialization(folder):
    one, two, three = (experiment(folder, seed=seed).model for seed in (1, 1, 2))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(next(one.parameters()), next(three.parameters()))
    assert isinstance(one.embedding, Embedding)


@pytest.mark.parametrize(("max_groups", "message"), [(7, "7"), (0, "max_groups=0")])
def test_groups_that_do_not_divide_are_named(folder, unchecked, max_groups, message):
    def embedding(v, m):
        return DeFINE(v, m, map=8, expand_dim=16, depth=2, max_groups=max_groups)

    with pytest.raises(ValueError, match=message):
        experiment(folder, embedding)
