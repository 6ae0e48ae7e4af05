"""A batch in parts, one after the other, trains as the whole batch does."""

import json

import pytest
import torch
from safetensors.torch import load_file
from tiny import Killed, experiment, small_define

from define import LSTM
from define.data import Text
from define.recipes import wikitext_2_transformer_xl
from define.training import Constant, Run, Training
from define.training.language_modeling import LanguageModeling

# Plain descent: Adam would turn the rounding of a sum into steps of full size.
SETTINGS = {
    "epochs": 2,
    "batch_size": 4,
    "length": 20,
    "evaluation_batch_size": 4,
    "optimizer": torch.optim.SGD,
    "learning_rate": 0.5,
    "schedule": Constant(),
    "validations": 2,
    "accelerator": "cpu",
}


def lstm(folder, **training):
    regularized = {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
    settings = {**SETTINGS, **regularized, "random_lengths": True, **training}
    return experiment(folder, cutoffs=(10, 30), **settings)


class NamedStates(LSTM):
    def segment(self, x, state):
        y, after = super().segment(x, None if state is None else tuple(state.values()))
        return y, dict(enumerate(after))


def named_states(folder, **training):
    built = lstm(folder, **training)
    built.model.backbone.__class__ = NamedStates
    return built


def transformer_xl(folder, **training):
    return wikitext_2_transformer_xl(
        Text(folder),
        small_define,
        cutoffs=(10, 30),
        embedding_dim=8,
        num_layers=2,
        num_heads=2,
        head_dim=4,
        inner_dim=16,
        memory_length=9,
        dropout=0.0,
        training=Training(**{**SETTINGS, **training}),
    )


def assert_close(run, whole):
    ours, theirs = load_file(run.weights), load_file(whole.weights)
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6)
    ours, theirs = (json.loads(r.summary.read_text()) for r in (run, whole))
    assert ours["tokens"] == theirs["tokens"]
    assert [tokens for tokens, _ in ours["history"]] == [tokens for tokens, _ in theirs["history"]]
    perplexities = [[perplexity for _, perplexity in x["history"]] for x in (ours, theirs)]
    assert perplexities[0] == pytest.approx(perplexities[1], rel=1e-5)


@pytest.mark.parametrize("make", [lstm, named_states, transformer_xl])
def test_parts_train_as_the_batch_does_and_a_killed_run_goes_on_in_others(
    make, folder, tmp_path, monkeypatch
):
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    make(folder).train(whole)
    make(folder, accumulate_grad_batches=4).train(run)
    assert_close(run, whole)
    step, calls = LanguageModeling.training_step, []

    def killed(self, batch):
        calls.append(None)
        if len(calls) == 2 * 30 + 2:  # within a batch of the second epoch
            raise Killed
        return step(self, batch)

    again, other = Run(tmp_path / "again"), Run(tmp_path / "other")
    for run in (again, other):
        calls.clear()
        with monkeypatch.context() as patch:
            patch.setattr(LanguageModeling, "training_step", killed)
            with pytest.raises(Killed):
                make(folder, accumulate_grad_batches=2, checkpoint_minutes=0).train(run)
    calls.clear()
    make(folder, accumulate_grad_batches=2).train(again)
    assert_close(again, whole)
    make(folder, accumulate_grad_batches=1).train(other)
    assert_close(other, whole)


def test_parts_must_divide_the_batch():
    with pytest.raises(ValueError, match="devices=2 times accumulate_grad_batches=3 must divide"):
        Training(batch_size=4, devices=2, accumulate_grad_batches=3)
    with pytest.raises(ValueError, match="accumulate_grad_batches=0 must be at least 1"):
        Training(accumulate_grad_batches=0)
