"""What AWD-LSTM adds to training: regularizers, rates by length, averages, an end."""

import pytest
import torch
from tiny import Killed, averaging_from, checkpoint_of, experiment

from define import DeFINE, LanguageModel, TiedSoftmax, TransformerXL
from define.training import NTASGD, Constant, Training
from define.training.language_modeling import LanguageModeling


def sgd(parameters):
    return NTASGD(parameters, weight_decay=0.0)


def test_the_rate_of_each_step_follows_the_length_of_its_segment(folder, run, monkeypatch):
    steps, step = [], LanguageModeling.training_step

    def noting(self, batch):
        loss = step(self, batch)
        weights = [p.detach().clone() for p in self.model.parameters()]
        steps.append((batch[0].shape[1], weights))
        return loss

    def gradients(self, closure=None):
        loss = original(self, closure)
        taken.append([p.grad.clone() for group in self.param_groups for p in group["params"]])
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
    monkeypatch.setattr(LanguageModeling, "score", lambda _: 0.0 if len(means) == 5 else 1.0)
    more = {"optimizer": averaging_from(3), "learning_rate": 1.0, "schedule": Constant()}
    setting = experiment(folder, epochs=6, length=50, **more)
    setting.train(run)
    # Begun after the third validation, with ten steps between two of them.
    assert [averaged for averaged, _ in means] == [None, None, None, 10, 20, 30]
    # All iterates since the trigger; each is seen where the next step begins.
    after = [w for averaged, w in iterates if averaged]
    for i in (3, 4):
        for mean, *rest in zip(means[i][1], *after[: 10 * (i - 2)], strict=True):
            torch.testing.assert_close(mean, torch.stack(rest).mean(0), rtol=1e-4, atol=1e-5)
    for saved, mean in zip(setting.model.parameters(), means[4][1], strict=True):
        assert torch.equal(saved, mean)


def test_patience_ends_training_and_stays_at_the_end(folder, run, monkeypatch):
    more = {"optimizer": sgd, "learning_rate": 1e-9, "schedule": Constant()}
    setting = experiment(folder, epochs=30, length=50, patience=1, **more)

    def killed(*_):
        raise Killed

    def spoil(self):
        start(self)
        if self.current_epoch == 3:
            with torch.no_grad():
                for parameter in self.model.parameters():
                    parameter.mul_(100)

    start = LanguageModeling.on_train_epoch_start
    monkeypatch.setattr(LanguageModeling, "on_train_epoch_start", spoil)
    with monkeypatch.context() as patch:
        patch.setattr("define.training.language_experiment.mean_nll", killed)
        with pytest.raises(Killed):
            setting.train(run)
    assert checkpoint_of(run)["global_step"] == 40
    history = [p for _, p in setting.train(run)["history"]]
    assert checkpoint_of(run)["global_step"] == 40
    assert len(history) == 4 and history[3] > 2 * history[0]
