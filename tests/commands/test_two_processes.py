"""Training by two processes: they share the columns of the text, and a killed run resumes."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import pytest
import ranks
import stress
import torch
from safetensors.torch import load_file
from tiny import Killed, arguments, checkpoint_of, experiment

from define.__main__ import main
from define.data import Segments
from define.training import Run, mean_nll
from define.training.language_modeling import LanguageModeling

# Lightning starts this file once more for the second process.
SCRIPT = """
import json, os, signal, sys
from define.__main__ import main
from define.training.language_modeling import LanguageModeling
end, step = LanguageModeling.on_validation_epoch_end, LanguageModeling.training_step
first, steps = [], []
def noting(self):
    end(self)
    found = {"perplexity": self.trainer.callback_metrics["valid_perplexity"].item(), "first": first}
    with open(os.environ["NOTES"] + str(self.trainer.global_rank), "w") as file:
        json.dump(found, file)
def stepping(self, batch):
    first or first.extend(batch[0][:, 0].tolist())
    steps.append(None)
    if len(steps) == 3 and self.trainer.global_rank == int(os.environ["DIES"]):
        os.kill(os.getpid(), signal.SIGKILL)
    return step(self, batch)
LanguageModeling.on_validation_epoch_end = noting
LanguageModeling.training_step = stepping
main(sys.argv[1:])
"""


def kill_at_step(monkeypatch, number, train):
    """Trains by one process until it is killed at a step, counted from 1."""
    step, calls = LanguageModeling.training_step, []

    def killed(self, batch):
        calls.append(None)
        if len(calls) == number:
            raise Killed
        return step(self, batch)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModeling, "training_step", killed)
        with pytest.raises(Killed):
            train()


def test_two_processes_share_the_columns(folder, tmp_path):
    run, script = Run(tmp_path / "run"), tmp_path / "run.py"
    script.write_text(SCRIPT)
    more = ("--training.devices", "2", "--training.length", "20", "--cutoffs", "[10,30]")
    done = subprocess.run(
        [sys.executable, str(script), *arguments(folder, run.path, *more)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "NOTES": str(tmp_path / "rank"), "DIES": "-1"},
    )
    assert done.returncode == 0, done.stderr
    one, two = (json.loads((tmp_path / f"rank{rank}").read_text()) for rank in (0, 1))
    assert one["perplexity"] == two["perplexity"] and math.isfinite(one["perplexity"])
    setting = experiment(folder, length=20, cutoffs=(10, 30))
    ids = setting.data.open().split("train")
    starts = [ids[column * (1999 // 4)].item() for column in range(4)]
    assert one["first"] + two["first"] == starts
    # The sums of both make what one process finds in the same columns.
    run.load_weights(setting.model)
    valid = Segments(setting.data.open().split("valid"), 4, 20, drop_last=False)
    expected = math.exp(mean_nll(setting.model, valid))
    assert one["perplexity"] == pytest.approx(expected, rel=1e-5)
    summary = json.loads(run.summary.read_text())
    assert summary["tokens"] == 4 * (1999 // 4)
    assert done.stdout.count("test ppl") == 1
    assert done.stderr.count("epoch 1 of 1, validation perplexity") == 1
    assert [path.name for path in (run.path / "logs").iterdir()] == ["version_0"]
    saved = torch.load(run.checkpoint, weights_only=True)["processes"]
    assert not torch.equal(saved[0]["carried"][0][0], saved[1]["carried"][0][0])
    assert not torch.equal(saved[0]["random"], saved[1]["random"])  # dropout of their own


def test_two_killed_processes_resume(folder, tmp_path):
    """Hidden states, random numbers and the means of averaged SGD, those of each process."""
    more = (
        *("--training.epochs", "2", "--training.length", "50", "--input_dropout", "0.3"),
        *("--training.checkpoint_minutes", "0", "--training.learning_rate", "1"),
        *("--training.optimizer", "define.training.AveragedSGD"),
    )
    whole, again = Run(tmp_path / "whole"), Run(tmp_path / "again")
    ranks.train(folder, whole, *more)
    ranks.train(folder, again, *more, killed_at=15)  # in the second epoch of ten steps
    assert again.checkpoint.exists() and not again.summary.exists()
    ranks.train(folder, again, *more)
    assert again.weights.read_bytes() == whole.weights.read_bytes()
    ours, theirs = (torch.load(run.checkpoint, weights_only=True) for run in (again, whole))
    means = [c["optimizer_states"][0]["state"] for c in (ours, theirs)]
    assert all(torch.equal(means[0][i]["average"], means[1][i]["average"]) for i in means[1])
    summaries = [json.loads(run.summary.read_text()) for run in (again, whole)]
    for name in ("history", "tokens", "test_perplexity"):
        assert summaries[0][name] == summaries[1][name]


def test_shared_parameters_train_as_those_of_one_process_also_after_a_kill(
    folder, tmp_path, monkeypatch
):
    more = (
        *("--training.epochs", "2", "--training.length", "50", "--cutoffs", "[10,30]"),
        *("--training.checkpoint_minutes", "0", "--training.learning_rate", "0.002"),
    )
    whole, first, last = map(Run, map(tmp_path.joinpath, "abc"))
    shared = (*more, "--training.shard_parameters", "true")
    main(arguments(folder, whole.path, *more))
    ranks.train(folder, first, *shared, killed_at=15)
    main(arguments(folder, first.path, *more))
    # In the second epoch of ten steps.
    kill_at_step(monkeypatch, 15, lambda: main(arguments(folder, last.path, *more)))
    ranks.train(folder, last, *shared)
    expected, theirs = load_file(whole.weights), checkpoint_of(whole)["optimizer_states"][0]
    for run in (first, last):
        for name, found in load_file(run.weights).items():
            torch.testing.assert_close(found, expected[name], rtol=0, atol=1e-4)
        ours = checkpoint_of(run)["optimizer_states"][0]
        for index, state in theirs["state"].items():
            torch.testing.assert_close(ours["state"][index], state, rtol=1e-2, atol=1e-4)
        summaries = [json.loads(r.summary.read_text()) for r in (run, whole)]
        assert summaries[0]["tokens"] == summaries[1]["tokens"]


def transformer_xl(folder, run, *more):
    plain = ("--dropout", "0", "--training.optimizer", "torch.optim.SGD")
    adaptive = ("--embedding.map", ADAPTIVE)
    return [*stress.command("Transformer-XL", folder.parent, Run(run)), *adaptive, *plain, *more]


ADAPTIVE = '{"class_path": "AdaptiveEmbedding", "init_args": {"cutoffs": [10, 30], "div_value": 2}}'


@pytest.mark.parametrize(("shared", "tolerance"), [("false", 1e-6), ("true", 1e-4)])
def test_a_transformer_xl_of_one_process_goes_on_with_two_and_back(
    shared, tolerance, folder, tmp_path, monkeypatch
):
    """Adaptive input, an adaptive softmax tied to it, and a memory that is carried over."""
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    more = ("--training.length", "50", "--training.learning_rate", "0.5")
    main(transformer_xl(folder, whole.path, *more))
    kill_at_step(monkeypatch, 4, lambda: main(transformer_xl(folder, run.path, *more)))
    how = ("--training.shard_parameters", shared)
    ranks.train(folder, run, *more, *how, killed_at=12, make=transformer_xl)
    between = checkpoint_of(run)
    assert between["epoch"] == 1 and len(between["processes"]) == 2
    main(transformer_xl(folder, run.path, *more))
    ours, theirs = (load_file(r.weights) for r in (run, whole))
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("rank", [0, 1])
def test_if_a_process_dies_the_other_ends_and_says_so(rank, folder, tmp_path):
    run, script, err = Run(tmp_path / "run"), tmp_path / "run.py", tmp_path / "err"
    script.write_text(SCRIPT)
    notes = {"NOTES": str(tmp_path / "rank"), "DIES": str(rank)}
    with err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments(folder, run.path, "--training.devices", "2")],
            stderr=stderr,
            env={**os.environ, **notes},
            start_new_session=True,
        )
        try:
            assert process.wait(timeout=600)
            end = time.monotonic() + 30
            while alive(process.pid):
                assert time.monotonic() < end, err.read_text()
                time.sleep(0.1)
        finally:
            if alive(process.pid):
                os.killpg(process.pid, signal.SIGKILL)
    said = err.read_text()
    # Whoever notices first: the other process, or Lightning.
    lines = [line for line in said.splitlines() if "is gone" in line or "terminated with" in line]
    assert len(lines) == 1 and "Traceback" not in said, said
    main(arguments(folder, run.path))  # nobody holds the lock


def alive(group):
    """Whether a process of a group is there."""
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_run_goes_on_with_another_number_of_devices(folder, tmp_path, caplog):
    more = (
        *("--training.epochs", "2", "--training.length", "50", "--training.clip", "0"),
        *("--training.checkpoint_minutes", "0", "--training.learning_rate", "1"),
        *("--training.optimizer", "torch.optim.SGD"),
    )
    whole, run = Run(tmp_path / "whole"), Run(tmp_path / "run")
    main(arguments(folder, whole.path, *more))
    ranks.train(folder, run, *more, killed_at=15)
    main(arguments(folder, run.path, *more))
    assert "goes on after epoch 2" in caplog.text
    ours, theirs = (load_file(r.weights) for r in (run, whole))
    for name, expected in theirs.items():
        torch.testing.assert_close(ours[name], expected, rtol=0, atol=1e-6)
