"""Recipes of Tables 1a and 2: their parameters at full size, and two steps at a small one."""

import math
from dataclasses import dataclass
from functools import partial

import pytest
import torch
from tiny import WORDS, write_text
from torch import nn

from define import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    DeFINE,
    ProjectedEmbedding,
    TiedSoftmax,
    recipes,
)
from define.commands.common import embedding_name
from define.data import Text
from define.measures.counting import shapes_only
from define.recipes import (
    wikipedia_25m,
    wikipedia_lstm_small,
    wikipedia_transformer_xl_small,
    wikitext_2,
    wikitext_2_transformer_xl,
    wikitext_103,
    wikitext_103_lstm,
)
from define.recipes.settings import RECIPES, config_text, recipe_parser
from define.training import Run, StepDecay, Training


@dataclass(frozen=True)
class Sized:
    """Stands for a text of which the recipes need no more than the size of its vocabulary."""

    size: int
    vocabulary: str = "given"

    def open(self):
        return type("Corpus", (), {"vocabulary": range(self.size)})


WIKITEXT_103 = Sized(267_735)

cut = partial(AdaptiveEmbedding, cutoffs=[20_000, 40_000, 200_000])


def test_wikipedia_has_the_models_of_wikitext_103():
    with shapes_only():
        models = [recipe(WIKITEXT_103).model for recipe in (wikitext_103, wikipedia_25m)]
    ours, theirs = ([(n, p.shape) for n, p in model.named_parameters()] for model in models)
    assert ours == theirs


@pytest.mark.parametrize("name", [name for name in RECIPES if name not in ("multi30k", "wmt14")])
def test_a_run_is_called_by_the_embedding_that_its_recipe_makes(name):
    options = {"start_from": "a run"} if name == "penn-treebank-finetune" else {}
    with shapes_only():
        model = getattr(recipes, name.replace("-", "_"))(WIKITEXT_103, **options).model
    settings = recipe_parser(name).get_defaults(skip_validation=True).as_dict()
    assert embedding_name(name, settings) == type(model.embedding).__name__


def test_published_settings():
    with shapes_only():
        lstm = wikitext_103_lstm(WIKITEXT_103).training
        transformer = wikitext_103(WIKITEXT_103).training
    assert lstm.schedule == StepDecay(milestones=(15 / 20,), gamma=0.1) and lstm.epochs == 20
    assert lstm.optimizer is torch.optim.SGD and lstm.learning_rate == 20
    tokens = transformer.epochs * 103_227_021
    assert tokens == pytest.approx(200_000 * 60 * 150, rel=0.03)
    assert transformer.schedule.factor(0, 100) == 1 and transformer.schedule.factor(100, 100) == 0


TWO_STEPS = Training(epochs=1, batch_size=4, length=250, evaluation_batch_size=4, accelerator="cpu")
SMALL = {"cutoffs": (10, 30), "training": TWO_STEPS}
TRANSFORMER = {"num_layers": 2, "num_heads": 2, "head_dim": 3, "inner_dim": 8, "embedding_dim": 6}


def define(num_embeddings, embedding_dim):
    return DeFINE(num_embeddings, embedding_dim, map=4, expand_dim=16, depth=2, max_groups=2)


adaptive = partial(AdaptiveEmbedding, cutoffs=(10, 30), map_dim=4, div_value=1)
unit = partial(DeFINE, map=adaptive, expand_dim=16, depth=2, max_groups=2)


def projected(num_embeddings, embedding_dim):
    return ProjectedEmbedding(num_embeddings, embedding_dim, map=4)


def fits(experiment, tmp_path):
    run = Run(tmp_path / "run")
    summary = experiment.train(run)
    assert summary["tokens"] == 4 * (250 + 249)  # two steps
    assert 1 < summary["valid_perplexity"] < 1000 and 1 < summary["test_perplexity"] < 1000
    again = experiment.evaluate().perplexity
    assert again == pytest.approx(summary["test_perplexity"])
    return summary


@pytest.mark.parametrize("make", [adaptive, unit], ids=["", "unit"])
def test_wikitext_103_fits_two_steps(make, folder, tmp_path):
    setting = wikitext_103(Text(folder), embedding=make, memory_length=20, **SMALL, **TRANSFORMER)
    assert fits(setting, tmp_path)["embedding"] == make.func.__name__
    assert setting.model.backbone.input_scale == pytest.approx(math.sqrt(6))


@pytest.mark.parametrize("make", [adaptive, unit], ids=["", "unit"])
def test_wikitext_103_lstm_fits_two_steps(make, folder, tmp_path):
    setting = wikitext_103_lstm(Text(folder), embedding=make, map_dim=16, hidden_size=8, **SMALL)
    fits(setting, tmp_path)
    assert setting.model.backbone.output_size == 16


@pytest.mark.parametrize("embedding", [nn.Embedding, projected, define])
@pytest.mark.parametrize("cutoffs", [(), (10, 30)], ids=["", "adaptive-softmax"])
def test_wikitext_2_transformer_xl_fits_two_steps(embedding, cutoffs, folder, tmp_path):
    setting = wikitext_2_transformer_xl(
        Text(folder), embedding, cutoffs=cutoffs, training=TWO_STEPS, **TRANSFORMER
    )
    fits(setting, tmp_path)
    assert isinstance(setting.model.head, AdaptiveSoftmax if cutoffs else TiedSoftmax)
    embedding = setting.model.embedding
    assert setting.model.head.tied.module is getattr(embedding, "map", embedding)


def test_wikitext_2_fits_two_steps(folder, tmp_path):
    setting = wikitext_2(Text(folder), cutoffs=(10, 30), training=TWO_STEPS)
    fits(setting, tmp_path)
    assert isinstance(setting.model.head, AdaptiveSoftmax)


def test_longer_memory_in_evaluation(folder):
    def backbone(**options):
        options |= {"embedding": adaptive, "memory_length": 20}
        return wikitext_103(Text(folder), **options, **SMALL, **TRANSFORMER).model.backbone

    published = backbone(evaluation_memory_length=64, clamp_length=40)
    assert published.evaluation_memory_length == 64 and published.clamp_length == 40
    assert published.same_length and not backbone().same_length


def test_wikipedia_is_measured_on_another_text(folder, tmp_path):
    """Training text from one folder; vocabulary, validation and test text from another."""
    other = write_text(tmp_path / "other", seed=1)
    (other / "train.txt").unlink()
    counts = "".join(f"{word} {50 - i}\n" for i, word in enumerate(WORDS))
    (other / "dict.txt").write_text(f"{counts}elsewhere 1\nmadeupword0000 0\n")
    for split in ("valid", "test"):
        (folder / f"{split}.txt").unlink()
    data = Text(folder, vocabulary=other / "dict.txt", evaluation=other)
    corpus = data.open()
    assert len(corpus.vocabulary) == len(WORDS) + 3  # <unk>, <eos>, and a word of no text
    expected = Text(other, vocabulary=other / "dict.txt").open().split("test")
    assert torch.equal(corpus.split("test"), expected)
    assert len(corpus.split("train")) == 2000
    setting = wikipedia_25m(data, embedding=unit, **SMALL, **TRANSFORMER)
    assert setting.model.embedding.num_embeddings == len(WORDS) + 3
    fits(setting, tmp_path)


SMALL_WIKIPEDIA = (wikipedia_lstm_small, wikipedia_transformer_xl_small)


@pytest.mark.parametrize("recipe", [wikipedia_25m, *SMALL_WIKIPEDIA])
def test_wikipedia_without_a_vocabulary(recipe, folder):
    with pytest.raises(ValueError, match=r"data.vocabulary=None must name"):
        recipe(Text(folder))


@pytest.mark.parametrize("recipe", SMALL_WIKIPEDIA)
def test_small_models_under_the_large_vocabulary(recipe):
    with shapes_only():
        models = [
            recipe(WIKITEXT_103).model,
            recipe(WIKITEXT_103, embedding=nn.Embedding).model,
            recipe(WIKITEXT_103, embedding=partial(DeFINE, map=cut)).model,
        ]
    counts = [model.parameter_counts() for model in models]
    assert {type(model.head) for model in models} == {AdaptiveSoftmax}
    assert all(4.0e6 < count.context < 4.5e6 for count in counts)
    assert [count.input_output // 10**6 for count in counts] == [9, 68, 9]


def test_a_split_that_is_missing_elsewhere(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty has no split 'valid'"):
        Text(folder, evaluation=tmp_path / "empty").open().split("valid")


def test_the_unit_starts_at_the_scale_of_its_map():
    """However small: what the tied softmax of a Transformer needs."""
    for std in (0.02, 1.0):
        map = partial(AdaptiveEmbedding, cutoffs=[100], map_dim=32, div_value=1, std=std)
        with torch.no_grad():
            weight = DeFINE(500, 64, map=map, expand_dim=256, max_groups=8).weight
        assert weight.std().item() == pytest.approx(std, rel=0.25)


FORMER = "--unit.expand_dim 16 --unit.depth 2 --unit.max_groups 2"
BANDS = "AdaptiveEmbedding --embedding.cutoffs [10,30]"
MAP = "AdaptiveEmbedding --embedding.map.cutoffs [10,30]"
LARGE = "--embedding.map.map_dim 4 --embedding.map.div_value 1 --embedding.expand_dim 4096"
RELU = "--embedding.activation torch.nn.ReLU --embedding.max_groups"


@pytest.mark.parametrize(
    ("name", "former", "present"),
    [
        (
            "wikitext-103-lstm --map_dim 8",
            FORMER,
            f"--embedding DeFINE --embedding.expand_dim 16 --embedding.depth 2 {RELU} 2 "
            f"--embedding.map {MAP}",
        ),
        (
            "wikitext-103 --map_dim 4",
            "--unit.max_groups 4",
            f"--embedding DeFINE {RELU} 4 --embedding.map {MAP} {LARGE}",
        ),
        ("wikitext-103-lstm", "--unit null", f"--embedding {BANDS}"),
        ("wikitext-103-lstm", "--unit.depth 7 --unit.max_groups 128", ""),
        ("wikipedia-25m", "--unit.depth 3", ""),
        ("wikitext-2-transformer-xl", "--unit null", ""),
        (
            "wikitext-2-transformer-xl",
            f"--unit.depth 2 --embedding {BANDS}",
            f"--embedding DeFINE --embedding.expand_dim 1024 --embedding.depth 2 {RELU} 16 "
            f"--embedding.map {MAP}",
        ),
    ],
)
def test_the_unit_of_version_0_1_is_an_embedding(name, former, present):
    """Commands and files of runs of then mean the same."""
    name, *options = name.split()

    def written(more):
        arguments = ["--data.path", "text", "--cutoffs", "[10,30]", *options, *more.split()]
        return config_text(name, recipe_parser(name).parse_args(arguments))

    assert written(former) == written(present)
