import csv
import json
import math

import pytest
import torch
from tiny import Killed, experiment
from torch import nn

from define.data import Segments
from define.embedding import count_vectors
from define.measures import RunSummary
from define.training import Constant, Cosine, FusedAdam, mean_nll, peak_memory
from define.training.language_modeling import LanguageModeling
from define.training.module import NonFiniteLossError


def one_step(folder, **training):
    """A training of one batch: the whole text."""
    return experiment(folder, length=10_000, schedule=Constant(), **training)


def column(path, name):
    """The numbers of a column of a CSV file."""
    with path.open() as file:
        return [float(row[name]) for row in csv.DictReader(file) if row[name]]


def test_every_step_has_the_rate_of_the_schedule(folder, run, monkeypatch):
    rates, step = [], LanguageModeling.training_step

    def noting(self, batch):
        rates.append(self.trainer.optimizers[0].param_groups[0]["lr"])
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    schedule = Cosine(warmup=0.25, final=0.2)
    experiment(folder, epochs=2, length=50, learning_rate=0.01, schedule=schedule).train(run)
    factors = [schedule.factor(s, 20) for s in range(20)]
    assert rates == pytest.approx([0.01 * factor for factor in factors])


def test_products_of_float32_are_set_for_the_time_of_a_training(folder, run, monkeypatch):
    found, step = [], LanguageModeling.training_step

    def noting(self, batch):
        found.append(torch.get_float32_matmul_precision())
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    before = torch.get_float32_matmul_precision()
    one_step(folder, float32_matmul_precision="medium").train(run)
    assert set(found) == {"medium"} and before != "medium"
    assert torch.get_float32_matmul_precision() == before


def rates(run):
    """The learning rates of the parameters in the last checkpoint, by the size of the group."""
    groups = torch.load(run.checkpoint, weights_only=True)["optimizer_states"][0]["param_groups"]
    return [(len(group["params"]), group["lr"]) for group in groups]


def test_the_unit_can_have_a_learning_rate_of_its_own(folder, run):
    setting = one_step(folder, learning_rate=0.5, unit_rate=0.1)
    embedding = setting.model.embedding
    unit = [*embedding.expand.parameters(), *embedding.reduce.parameters()]
    map, before = embedding.map.weight, [p.detach().clone() for p in setting.model.parameters()]
    setting.train(run)
    assert rates(run) == [(len(before) - len(unit), 0.5), (len(unit), 0.05)]
    # The first step of Adam moves each weight that has a gradient by its learning rate.
    for parameter, old in zip(setting.model.parameters(), before, strict=True):
        mine = any(parameter is p for p in unit)
        assert (parameter - old).abs().max().item() == pytest.approx(
            0.05 if mine else 0.5, rel=1e-3
        )
    assert any(map is p for p in setting.model.parameters())


def test_a_rate_for_the_unit_without_a_unit_is_one_group(folder, run):
    setting = one_step(folder, embedding=torch.nn.Embedding, learning_rate=0.5, unit_rate=0.1)
    setting.train(run)
    assert rates(run) == [(len(list(setting.model.parameters())), 0.5)]


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=123.0, weight_decay=0.1)


@pytest.mark.parametrize("optimizer", [torch.optim.SGD, FusedAdam, adamw])
def test_the_learning_rate_is_that_of_any_optimizer(folder, run, optimizer):
    one_step(folder, optimizer=optimizer, learning_rate=0.5).train(run)
    saved = torch.load(run.checkpoint, weights_only=True)
    [group] = saved["optimizer_states"][0]["param_groups"]
    assert group["lr"] == 0.5


@pytest.mark.parametrize("clip", [0.0, 0.01])
def test_clipping_bounds_the_norm_of_the_gradient(folder, run, clip):
    sgd = {"optimizer": torch.optim.SGD, "learning_rate": 1.0, "clip": clip}
    setting = one_step(folder, **sgd)
    before = [parameter.detach().clone() for parameter in setting.model.parameters()]
    setting.model.train()
    [batch] = Segments(setting.data.open().split("train"), 4, 10_000)
    setting.model(*batch)[0].mean().backward()
    gradient = torch.cat([parameter.grad.flatten() for parameter in setting.model.parameters()])
    assert gradient.norm() > 0.01
    setting.train(run)
    after = setting.model.parameters()
    moved = torch.cat([(b - a).flatten() for a, b in zip(after, before, strict=True)])
    expected = gradient if clip == 0 else clip * gradient / gradient.norm()
    torch.testing.assert_close(moved, expected, rtol=1e-3, atol=1e-6)


def test_the_loss_falls_on_a_text_that_can_be_learned(folder, run):
    summary = experiment(folder, epochs=2, learning_rate=0.03, validations=2).train(run)
    perplexities = [perplexity for _, perplexity in summary["history"]]
    # The first word of a line is one of 48, all others are certain: at best 48 ** 0.1 = 1.5.
    assert perplexities == sorted(perplexities, reverse=True)
    assert 1.4 < perplexities[-1] < 10
    assert summary["test_perplexity"] < 10
    metrics = run.path / "logs" / "version_0" / "metrics.csv"
    losses = column(metrics, "train_loss")
    assert len(losses) == 4 and losses[-1] < losses[0]  # each 50 steps of 200
    assert column(metrics, "lr-FusedAdam")[-1] < 0.03


def test_the_run_folder_has_summary_logs_and_vocabulary(folder, run):
    setting = experiment(folder, epochs=2, length=50, validations=2)
    summary = setting.train(run)
    assert json.loads(run.summary.read_text()) == summary
    counts = setting.model.parameter_counts()
    assert RunSummary.from_json(run.summary) == RunSummary(
        name="run",
        embedding="DeFINE",
        unit=counts.unit,
        context=counts.context,
        input_output=counts.input_output,
        tokens_per_second=summary["tokens_per_second"],
        valid_perplexity=min(perplexity for _, perplexity in summary["history"]),
        test_perplexity=summary["test_perplexity"],
        seed=1,
        tokens=2 * 4 * (1999 // 4),
        peak_memory=summary["peak_memory"],
        history=tuple((tokens, perplexity) for tokens, perplexity in summary["history"]),
        texts=summary["texts"],
    )
    assert len(set(summary["texts"].split())) == 2  # validation and test are different texts
    assert [tokens for tokens, _ in summary["history"]] == [1000, 1996, 2996, 3992]
    assert summary["tokens_per_second"] > 0
    metrics = run.path / "logs" / "version_0" / "metrics.csv"
    assert len(column(metrics, "train_loss")) == 4  # also of epochs of ten steps
    # Torch alone has more than that.
    assert 2**26 < summary["peak_memory"] <= peak_memory(torch.device("cpu"))
    assert run.vocabulary.read_text().split() == list(setting.data.open().vocabulary.words)

    [version] = (run.path / "logs").iterdir()
    assert version.name == "version_0"
    assert len(list(version.glob("events.out.tfevents.*"))) == 1
    logged = [perplexity for _, perplexity in summary["history"]]
    assert column(version / "metrics.csv", "valid_perplexity") == pytest.approx(logged)
    assert not list(run.path.rglob("*.partial"))


def test_each_start_has_a_version_of_both_logs(folder, run, monkeypatch):
    validations, start = [], LanguageModeling.on_validation_epoch_start

    def killed(self):
        validations.append(None)
        if len(validations) == 2:
            raise Killed
        start(self)

    monkeypatch.setattr(LanguageModeling, "on_validation_epoch_start", killed)
    with pytest.raises(Killed):
        experiment(folder, epochs=2, length=50).train(run)
    experiment(folder, epochs=2, length=50).train(run)
    versions = sorted((run.path / "logs").iterdir())
    assert [version.name for version in versions] == ["version_0", "version_1"]
    for version in versions:
        assert len(list(version.glob("events.out.tfevents.*"))) == 1
        assert len(column(version / "metrics.csv", "valid_perplexity")) == 1


def test_the_weights_are_those_of_the_best_validation(folder, run, monkeypatch):
    best, start = [], LanguageModeling.on_train_epoch_start

    def spoil(self):
        start(self)
        if self.current_epoch == 2:
            best.extend(p.detach().clone() for p in self.model.parameters())
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.add_(torch.randn_like(parameter))

    monkeypatch.setattr(LanguageModeling, "on_train_epoch_start", spoil)
    setting = experiment(folder, epochs=3, length=50, learning_rate=0.01)
    summary = setting.train(run)
    one, two, three = (perplexity for _, perplexity in summary["history"])
    assert two < one and two < three
    assert summary["valid_perplexity"] == two
    for parameter, expected in zip(setting.model.parameters(), best, strict=True):
        assert torch.equal(parameter, expected)
    valid = Segments(setting.data.open().split("valid"), 4, 50, drop_last=False)
    assert math.exp(mean_nll(setting.model, valid)) == pytest.approx(two, rel=1e-6)


def test_a_loss_that_is_nan_leaves_the_last_good_state(folder, run, monkeypatch):
    step, calls = LanguageModeling.training_step, []

    def spoil(self, batch):
        calls.append(run.checkpoint.read_bytes() if run.checkpoint.exists() else None)
        if len(calls) == 15:
            with torch.no_grad():
                next(self.model.backbone.parameters()).fill_(torch.nan)
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", spoil)
    setting = experiment(folder, epochs=2, length=50, checkpoint_minutes=0)
    with pytest.raises(NonFiniteLossError, match="loss is nan in epoch 2, after 14 steps"):
        setting.train(run)
    assert len(calls) == 15  # it stopped at once
    assert run.checkpoint.read_bytes() == calls[-1]
    saved = torch.load(run.checkpoint, weights_only=True)
    assert saved["global_step"] == 14
    assert all(value.isfinite().all() for value in saved["state_dict"].values())
    run.load_weights(setting.model)
    assert all(parameter.isfinite().all() for parameter in setting.model.parameters())
    assert not run.summary.exists()


def test_a_validation_loss_that_is_not_finite_stops_training(folder, run, monkeypatch):
    start = LanguageModeling.on_validation_epoch_start

    def spoil(self):
        start(self)
        if self.current_epoch == 1:
            with torch.no_grad():
                next(self.model.backbone.parameters()).fill_(torch.nan)

    monkeypatch.setattr(LanguageModeling, "on_validation_epoch_start", spoil)
    setting = experiment(folder, epochs=2, length=50)
    message = "validation loss is nan in epoch 2, after 20 steps"
    with pytest.raises(NonFiniteLossError, match=message):
        setting.train(run)
    run.load_weights(setting.model)
    assert all(parameter.isfinite().all() for parameter in setting.model.parameters())


class Spoiling(torch.optim.SGD):
    """Its third step leaves a parameter that is not finite."""

    def __init__(self, parameters):
        super().__init__(parameters)
        self.steps = 0

    def step(self, closure=None):
        loss = super().step(closure)
        self.steps += 1
        if self.steps == 3:
            with torch.no_grad():
                self.param_groups[0]["params"][0][5] = torch.inf
        return loss


def test_a_parameter_that_is_not_finite_is_not_saved(folder, run):
    setting = experiment(folder, length=50, optimizer=Spoiling, checkpoint_minutes=0)
    message = r"Parameter embedding\.\S+ is not finite in epoch 1, after 3 steps"
    with pytest.raises(NonFiniteLossError, match=message):
        setting.train(run)
    saved = torch.load(run.checkpoint, weights_only=True)
    assert saved["global_step"] == 2
    assert not list(run.path.rglob("*.partial"))


def test_another_vocabulary_is_refused_before_training(folder, run):
    experiment(folder, length=50).train(run)
    before = run.weights.read_bytes(), run.vocabulary.read_bytes()
    text = folder / "train.txt"
    text.write_text(text.read_text() + "another another word word\n")
    with pytest.raises(ValueError, match="has 50 words .*, the text 52 .*: train into another"):
        experiment(folder, length=50).train(run)
    assert (run.weights.read_bytes(), run.vocabulary.read_bytes()) == before


@pytest.mark.parametrize("split", ["train", "valid", "test"])
def test_a_split_too_short_for_its_columns_fails_before_training(folder, run, monkeypatch, split):
    (folder / f"{split}.txt").write_text("w00 w00\n")

    def trained(*_):
        raise AssertionError("it was trained")

    monkeypatch.setattr(LanguageModeling, "training_step", trained)
    with pytest.raises(ValueError, match="3 tokens is too short for batch_size=4"):
        experiment(folder).train(run)
    assert not run.weights.exists()


@pytest.mark.parametrize(("accelerator", "named"), [("cuda", "(?i)cuda"), ("tpu", "torch_xla")])
def test_a_device_that_is_not_there_is_named(folder, run, accelerator, named):
    if accelerator == "cuda" and torch.cuda.is_available():
        pytest.skip("it is there")
    with pytest.raises(ValueError, match=named):
        experiment(folder, accelerator=accelerator).train(run)


def test_the_embedding_starts_from_the_text(folder, run):
    started = experiment(folder, nn.Embedding, learning_rate=1e-9, start_from_text=True)
    started.train(run)
    ids, size = started.corpus.split("train"), len(started.corpus.vocabulary)
    expected = count_vectors(ids, size, 8)
    found = started.model.embedding.weight.detach()
    assert torch.nn.functional.cosine_similarity(found, expected).min() > 0.9999
