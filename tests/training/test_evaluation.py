import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from tiny import cache_in, experiment, write_text

from define.data import Segments
from define.training import Run, mean_nll


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("trained")
    # Dropout, and a last batch that is shorter and partly padding.
    setting = experiment(write_text(root / "text"), dropout=0.3, length=7, learning_rate=0.02)
    run = Run(root / "run")
    with cache_in(root / "cache"):
        return setting, run, setting.train(run)


def whole_nll(model, ids):
    """Sum over all tokens but the first, each with all those before it as context."""
    model.eval()
    with torch.no_grad():
        hidden, _ = model.hidden(ids[None, :-1].long())
        log_prob = model.head.log_prob(hidden)[0]
    return -log_prob.gather(1, ids[1:, None].long()).double().sum().item()


def test_one_column_has_the_whole_text_as_context(trained):
    setting, run, _ = trained
    for split in ("valid", "test"):
        ids = setting.data.open().split(split)
        expected = math.exp(whole_nll(setting.model, ids) / (len(ids) - 1))
        assert setting.evaluate(split, batch_size=1).perplexity == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("columns", [3, 4, 7])
def test_each_token_but_the_first_counts_once(trained, columns):
    setting, run, _ = trained
    ids = setting.data.open().split("valid")
    places = -(-(len(ids) - 1) // columns)  # the last column is the shorter one
    starts = range(0, len(ids) - 1, places)
    total = sum(whole_nll(setting.model, ids[start : start + places + 1]) for start in starts)
    expected = math.exp(total / (len(ids) - 1))
    assert setting.evaluate("valid", batch_size=columns).perplexity == pytest.approx(
        expected, rel=1e-6
    )


def test_validation_in_training_is_the_mean_of_the_same_weights(trained):
    setting, run, summary = trained
    ids = setting.data.open().split("valid")
    segments = Segments(ids, 4, 7, drop_last=False)
    expected = math.exp(mean_nll(setting.model, segments))
    [[tokens, perplexity]] = summary["history"]
    assert perplexity == pytest.approx(expected, rel=1e-6)
    assert setting.evaluate("valid").perplexity == pytest.approx(expected, rel=1e-12)
    assert setting.evaluate().perplexity == pytest.approx(summary["test_perplexity"], rel=1e-12)
    assert tokens == summary["tokens"]


@pytest.mark.parametrize("mode", [True, False])
def test_the_mode_of_the_model_stays(trained, mode):
    setting, _, _ = trained
    setting.model.train(mode)
    segments = Segments(setting.data.open().split("test"), 4, 7, drop_last=False)
    assert mean_nll(setting.model, segments) == mean_nll(setting.model, segments)
    assert all(module.training == mode for module in setting.model.modules())


def test_no_columns(trained):
    setting, run, _ = trained
    with pytest.raises(ValueError, match="batch_size=0"):
        setting.evaluate(batch_size=0)


def test_a_model_that_diverged_is_measured(trained):
    setting, _, _ = trained
    diverged = replace(setting, model=deepcopy(setting.model))
    with torch.no_grad():
        for parameter in diverged.model.parameters():
            parameter.mul_(1e4)
    assert diverged.evaluate("test").perplexity == math.inf == diverged.perplexity("w01 w03")
