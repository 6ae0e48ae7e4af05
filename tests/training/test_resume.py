"""A killed run resumes to the same numbers."""

import functools
import signal
import time

import forked
import pytest
import torch
from tiny import Killed, arguments, averaging_from, experiment, small_define, write_text

from define.__main__ import main
from define.data import Text
from define.measures import RunSummary
from define.recipes import wikitext_2_transformer_xl
from define.training import Constant, Run, Training
from define.training.language_modeling import LanguageModeling


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text", train=40)


def dropped(folder, **training):
    """Everything that draws random numbers is on; epochs of different numbers of batches."""
    return experiment(
        folder, dropout=0.3, epochs=3, length=10, random_lengths=True, seed=3, **training
    )


def kill_at(monkeypatch, hook, call):
    """Lets the given call of a hook fail, that of no later start."""
    original, calls = getattr(LanguageModeling, hook), []

    @functools.wraps(original)  # Lightning reads its signature
    def step(self, *args):
        calls.append(None)
        if len(calls) == call:
            raise Killed
        return original(self, *args)

    monkeypatch.setattr(LanguageModeling, hook, step)
    return calls


def assert_equal_runs(one, two, summaries):
    assert one.weights.read_bytes() == two.weights.read_bytes()
    for name in ("history", "tokens", "valid_perplexity", "test_perplexity"):
        assert summaries[0][name] == summaries[1][name]
    ours, theirs = (torch.load(run.checkpoint, weights_only=True) for run in (one, two))
    assert ours["global_step"] == theirs["global_step"]
    assert ours["lr_schedulers"] == theirs["lr_schedulers"]
    for name, value in ours["state_dict"].items():
        assert torch.equal(value, theirs["state_dict"][name])
    groups = [c["optimizer_states"][0]["param_groups"] for c in (ours, theirs)]
    assert groups[0] == groups[1]
    moments = [c["optimizer_states"][0]["state"] for c in (ours, theirs)]
    for index, state in moments[0].items():
        assert all(torch.equal(value, moments[1][index][key]) for key, value in state.items())


@pytest.fixture(params=[1, 2], ids=["validation at the end", "and in the middle"])
def whole(request, folder, tmp_path, monkeypatch):
    """An uninterrupted run, its settings, and the numbers of batches of its epochs."""
    settings = {"validations": request.param}
    run = Run(tmp_path / "whole")
    with monkeypatch.context() as patch:
        steps = kill_at(patch, "training_step", -1)
        lengths = [0]
        start = LanguageModeling.on_train_epoch_start

        def note(self):
            lengths.append(len(steps))
            start(self)

        patch.setattr(LanguageModeling, "on_train_epoch_start", note)
        summary = dropped(folder, **settings).train(run)
    ends = [*lengths[2:], len(steps)]
    assert len({b - a for a, b in zip([0, *ends], ends, strict=False)}) > 1
    return run, summary, settings, ends


def test_killed_in_training(whole, folder, tmp_path, monkeypatch):
    run, summary, settings, ends = whole
    one, two, three = ends
    for step in (2, one // 2 + 1, one, one + 1, one + 2, two, two + 1, two + 4, three):
        again = Run(tmp_path / f"killed-{step}")
        with monkeypatch.context() as patch:
            kill_at(patch, "training_step", step)
            with pytest.raises(Killed):
                dropped(folder, checkpoint_minutes=0, **settings).train(again)
        resumed = dropped(folder, checkpoint_minutes=0, **settings).train(again)
        assert_equal_runs(run, again, (summary, resumed))


def test_killed_in_validation(whole, folder, tmp_path, monkeypatch):
    run, summary, settings, _ = whole
    for call in (1, 3 * 5):
        again = Run(tmp_path / f"killed-{call}")
        with monkeypatch.context() as patch:
            kill_at(patch, "validation_step", call)
            with pytest.raises(Killed):
                dropped(folder, checkpoint_minutes=0, **settings).train(again)
        resumed = dropped(folder, checkpoint_minutes=0, **settings).train(again)
        assert_equal_runs(run, again, (summary, resumed))


def test_killed_between_epochs_with_rare_checkpoints(whole, folder, tmp_path, monkeypatch):
    run, summary, settings, _ = whole
    again = Run(tmp_path / "killed")
    for epoch in (2, 3):  # the first batch of the second epoch is followed by a checkpoint
        with monkeypatch.context() as patch:
            kill_at(patch, "on_train_epoch_start", epoch)
            with pytest.raises(Killed):
                dropped(folder, checkpoint_minutes=1e6, **settings).train(again)
        assert again.checkpoint.exists() == (epoch == 3)
    resumed = dropped(folder, checkpoint_minutes=1e6, **settings).train(again)
    assert_equal_runs(run, again, (summary, resumed))


def test_killed_around_the_trigger_of_averaging(folder, tmp_path, monkeypatch):
    def setting(**training):
        constant = {"learning_rate": 1.0, "schedule": Constant()}
        regularized = {"activation_regularization": 2.0, "temporal_activation_regularization": 1.0}
        averaging = averaging_from(3)
        return dropped(folder, optimizer=averaging, **constant, **regularized, **training)

    whole, averaged = Run(tmp_path / "whole"), []
    with monkeypatch.context() as patch:
        step = LanguageModeling.training_step

        def note(self, batch):
            averaged.append(self.trainer.optimizers[0].averaged)
            return step(self, batch)

        patch.setattr(LanguageModeling, "training_step", note)
        summary = setting(validations=2).train(whole)
    trigger = averaged.index(0)  # the step after the validation that begins it
    assert averaged[-1] > 2
    for call in (trigger, trigger + 1, trigger + 2, trigger + 3, len(averaged)):
        again = Run(tmp_path / f"killed-{call}")
        with monkeypatch.context() as patch:
            kill_at(patch, "training_step", call)
            with pytest.raises(Killed):
                setting(validations=2, checkpoint_minutes=0).train(again)
        resumed = setting(validations=2, checkpoint_minutes=0).train(again)
        assert_equal_runs(whole, again, (summary, resumed))


def test_killed_after_training_is_not_trained_again(whole, folder, tmp_path, monkeypatch):
    run, summary, settings, _ = whole
    again = Run(tmp_path / "killed")

    def killed(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("define.training.language_experiment.mean_nll", killed)
        with pytest.raises(Killed):
            dropped(folder, **settings).train(again)
    assert not again.summary.exists()
    steps = kill_at(monkeypatch, "training_step", -1)
    resumed = dropped(folder, **settings).train(again)
    assert not steps
    assert_equal_runs(run, again, (summary, resumed))


def test_a_process_that_is_killed_goes_on_by_the_same_command(tmp_path, capsys):
    folder = write_text(tmp_path / "text", train=600)
    more = ("--training.checkpoint_minutes", "0", "--dropout", "0.3")
    run, whole = Run(tmp_path / "killed"), Run(tmp_path / "whole")
    process = forked.process(main, arguments(folder, run.path, *more))
    process.start()
    end = time.monotonic() + 300
    while not run.checkpoint.exists() and process.is_alive() and time.monotonic() < end:
        time.sleep(0.02)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert run.checkpoint.exists() and not run.summary.exists()
    main(arguments(folder, run.path, *more))
    main(arguments(folder, whole.path, "--dropout", "0.3"))
    capsys.readouterr()
    summaries = [vars(RunSummary.from_json(r.summary)) for r in (run, whole)]
    assert_equal_runs(run, whole, summaries)


def test_the_peak_of_memory_is_that_of_all_starts(folder, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        kill_at(patch, "training_step", 9)
        with pytest.raises(Killed):
            dropped(folder, checkpoint_minutes=0).train(run)
    checkpoint = torch.load(run.checkpoint, weights_only=True)
    (progress,) = (state for state in checkpoint["callbacks"].values() if "history" in state)
    assert progress["peak_memory"] > 2**26
    progress["peak_memory"] = 2**50
    torch.save(checkpoint, run.checkpoint)
    run.record(run.checkpoint)
    assert dropped(folder).train(run)["peak_memory"] == 2**50
    assert RunSummary.from_json(run.summary).peak_memory == 2**50


def transformer_xl(folder, **training):
    return wikitext_2_transformer_xl(
        Text(folder),
        embedding=small_define,
        embedding_dim=8,
        num_layers=1,
        num_heads=1,
        head_dim=8,
        inner_dim=8,
        memory_length=5,
        cutoffs=[10],
        training=Training(batch_size=4, length=5, evaluation_batch_size=4, **training),
    )


@pytest.mark.parametrize("make", [experiment, transformer_xl])
def test_a_run_goes_on_in_other_number_formats(make, folder, tmp_path, monkeypatch):
    """Also what a segment carries to the next one."""
    run = Run(tmp_path / "run")
    settings = {"epochs": 1, "checkpoint_minutes": 0, "accelerator": "cpu"}
    for precision in ("bf16-mixed", "32-true", "bf16-true", "64-true"):
        with monkeypatch.context() as patch:
            kill_at(patch, "training_step", 4)
            with pytest.raises(Killed):
                make(folder, precision=precision, **settings).train(run)
    make(folder, precision="32-true", **settings).train(run)
    assert torch.load(run.checkpoint, weights_only=True)["global_step"] > 12
