"""What AWD-LSTM adds to training: regularizers, rates by length, averages, an end."""

import pytest
import torch
from tiny import Killed, experiment

from define import DeFINE, LanguageModel, TiedSoftmax, TransformerXL
from define.training import NTASGD, Constant, Training
from define.training.language_modeling import LanguageModeling


def sgd(parameters):
    return NTASGD(parameters, weight_decay=0.0)


def averaging(parameters):
    """Begins to average at the first validation that is worse than one before."""
    return NTASGD(parameters, weight_decay=0.0, nonmonotone=0)


def test_the_rate_of_each_step_follows_the_length_of_its_segment(folder, run, monkeypatch):
    steps, step = [], LanguageModeling.training_step

    def noting(self, batch):
        loss = step(self, batch)
        weights = [p.detach().clone() for p in self.model.parameters()]
        steps.append((batch[0].shape[1], weights))
        return loss

    def gradients(self, closure=None):
        loss = original(self, closure)
        taken.append([p.grad.clone() for p in self._parameters()])
        return loss

    taken, original = [], NTASGD.step
    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    monkeypatch.setattr(NTASGD, "step", gradients)
    options = {"length": 20, "random_lengths": True, "clip": 0.0, "schedule": Constant()}
    setting = experiment(folder, optimizer=sgd, learning_rate=0.5, **options)
    setting.train(run)
    lengths = [length for length, _ in steps]
    assert len(set(lengths)) > 3
    for i, (length, before) in enumerate(steps[:-1]):
        for a, b, gradient in zip(before, steps[i + 1][1], taken[i], strict=True):
            torch.testing.assert_close(b, a - 0.5 * length / 20 * gradient)


def test_the_loss_has_the_regularizers_and_the_log_has_not(folder, run, monkeypatch):
    found, step = [], LanguageModeling.training_step

    def noting(self, batch):
        torch.manual_seed(1)
        loss = step(self, batch)
        model = self.model
        torch.manual_seed(1)
        raw = model.backbone.input_dropout(model.embedding(batch[0]))
        for layer in model.backbone.layers:
            raw, _ = layer(raw)
        dropped = model.backbone.output_dropout(raw)
        nll = model.head(dropped, batch[1]).mean()
        logged = self.trainer.callback_metrics["train_loss"]
        found.append((loss, nll, raw, dropped, logged))
        return loss

    monkeypatch.setattr(LanguageModeling, "training_step", noting)
    factors = {"activation_regularization": 2.0, "temporal_activation_regularization": 3.0}
    setting = experiment(folder, dropout=0.4, length=1000, **factors)
    setting.train(run)
    [(loss, nll, raw, dropped, logged)] = found
    assert (dropped == 0).any()
    squares, changes = dropped.pow(2).mean(), (raw[:, 1:] - raw[:, :-1]).pow(2).mean()
    torch.testing.assert_close(loss, nll + 2 * squares + 3 * changes)
    torch.testing.assert_close(logged, nll.detach())
    assert not setting.model.backbone.output_dropout._forward_hooks


def test_a_backbone_without_that_dropout_is_named():
    embedding = DeFINE(20, 8, map=4, expand_dim=8, depth=1, max_groups=1)
    backbone = TransformerXL(8, 1, num_heads=1, head_dim=8, inner_dim=8)
    model = LanguageModel(embedding, backbone, TiedSoftmax(embedding.map, 8))
    LanguageModeling(model, Training(), 1)
    with pytest.raises(ValueError, match=r"=2.0 and .*=0.0 .*TransformerXL"):
        LanguageModeling(model, Training(activation_regularization=2.0), 1)


def test_the_means_are_validated_and_saved_and_training_goes_on_without(folder, run, monkeypatch):
    iterates, means, noted = [], [], []
    step, start = LanguageModeling.training_step, LanguageModeling.on_validation_epoch_start

    def weights(self):
        return [p.detach().clone() for p in self.model.parameters()]

    def stepping(self, batch):
        iterates.append((self.trainer.optimizers[0].averaged, weights(self)))
        return step(self, batch)

    def validating(self):
        start(self)
        noted.append(len(iterates))
        means.append((self.trainer.optimizers[0].averaged, weights(self)))

    monkeypatch.setattr(LanguageModeling, "training_step", stepping)
    monkeypatch.setattr(LanguageModeling, "on_validation_epoch_start", validating)
    # A rate so large that it jumps about: its averages are far better.
    more = {"optimizer": averaging, "learning_rate": 20.0, "schedule": Constant(), "clip": 1.0}
    setting = experiment(folder, epochs=6, length=50, **more)
    summary = setting.train(run)
    begun = [averaged for averaged, _ in means]
    first = next(i for i, averaged in enumerate(begun) if averaged)
    assert first >= 2 and begun[first:] == [10 * (i + 1) for i in range(len(begun) - first)]
    # All iterates since the trigger; each is seen where the next step begins.
    after = [w for averaged, w in iterates if averaged]
    for i in range(first, len(means) - 1):
        values = after[: begun[i]]
        for mean, *rest in zip(means[i][1], *values, strict=True):
            torch.testing.assert_close(mean, torch.stack(rest).mean(0), rtol=1e-4, atol=1e-5)
    best = min(range(len(means)), key=lambda i: summary["history"][i][1])
    assert best >= first
    for saved, mean in zip(setting.model.parameters(), means[best][1], strict=True):
        assert torch.equal(saved, mean)


def test_patience_ends_training_and_stays_at_the_end(folder, run, monkeypatch):
    more = {"optimizer": sgd, "learning_rate": 20.0, "schedule": Constant(), "clip": 1.0}
    setting = experiment(folder, epochs=30, length=50, patience=1, **more)

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("define.training.language_experiment.mean_nll", killed)
        with pytest.raises(Killed):
            setting.train(run)
    steps = torch.load(run.checkpoint, weights_only=False)["global_step"]
    history = [p for _, p in setting.train(run)["history"]]
    assert torch.load(run.checkpoint, weights_only=False)["global_step"] == steps
    assert len(history) < 30 and steps == 10 * len(history)
    worse = [i > 1 and p > min(history[: i - 1]) for i, p in enumerate(history)]
    assert worse == [False] * (len(history) - 1) + [True]
