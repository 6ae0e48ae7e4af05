"""What a long-running job meets: signals, damage, a second start, a stranger's files."""

import json
import os
import pickle
import shutil
import signal

import forked
import pytest
import torch
from tiny import Killed, arguments, cache_in, checkpoint_of, experiment, write_text

from define.__main__ import main
from define.files import checksum
from define.recipes import settings
from define.training import Run, Stopped, StopSignals
from define.training.language_modeling import LanguageModeling

MORE = ("--training.epochs", "2", "--training.length", "20", "--dropout", "0.3")


def at_step(monkeypatch, number, act):
    """Does something at the start of a step, counted from 1."""
    step, calls = LanguageModeling.training_step, []

    def acting(self, batch):
        calls.append(None)
        if len(calls) == number:
            act()
        return step(self, batch)

    monkeypatch.setattr(LanguageModeling, "training_step", acting)


def killed():
    raise Killed


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A text, a run on it, and the same run killed, with two checkpoints."""
    root = tmp_path_factory.mktemp("made")
    folder, whole, stopped = write_text(root / "text", train=60), root / "whole", root / "stopped"
    with cache_in(root / "cache"), pytest.MonkeyPatch.context() as patch:
        main(arguments(folder, whole, *MORE))
        at_step(patch, 10, killed)
        with pytest.raises(Killed):
            main(arguments(folder, stopped, *MORE, "--training.checkpoint_minutes", "0"))
    return folder, Run(whole), Run(stopped)


@pytest.fixture
def folder(made):
    return made[0]


@pytest.fixture
def whole(made):
    return made[1]


@pytest.fixture(autouse=True)
def as_in_a_terminal():
    """However the tests were started: a script's background jobs ignore SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def stopped(made, tmp_path):
    """A copy of the killed run."""
    shutil.copytree(made[2].path, tmp_path / "run")
    return Run(tmp_path / "run")


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGUSR1"])
@pytest.mark.parametrize("step", [3, 8], ids=["", "before a validation"])
def test_a_signal_saves_and_the_same_command_goes_on(
    name, step, folder, whole, tmp_path, monkeypatch, capsys, caplog
):
    number = getattr(signal, name)
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: signal.raise_signal(number))
        with pytest.raises(SystemExit) as exit:
            main(arguments(folder, run.path, *MORE))
    assert exit.value.code == 128 + number
    place = "epoch 1, step 3" if step == 3 else "epoch 2, step 9"  # the first that can be saved
    message = f"{run.path}: stopped in {place}; the same command goes on\n"
    assert capsys.readouterr().err.endswith(message)
    assert checkpoint_of(run)["global_step"] == int(place.split()[-1])
    main(arguments(folder, run.path, *MORE))
    assert f"goes on after {place}" in caplog.text
    assert run.weights.read_bytes() == whole.weights.read_bytes()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_signal_in_validation_saves_what_can_go_on(folder, whole, tmp_path, monkeypatch, capsys):
    run, start = Run(tmp_path / "run"), LanguageModeling.on_validation_epoch_start

    def signalled(self):
        start(self)
        signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(LanguageModeling, "on_validation_epoch_start", signalled)
        with pytest.raises(SystemExit) as exit:
            main(arguments(folder, run.path, *MORE))
    assert exit.value.code == 143
    assert "stopped in epoch 2, step 9" in capsys.readouterr().err
    main(arguments(folder, run.path, *MORE))
    assert run.weights.read_bytes() == whole.weights.read_bytes()


def test_a_signal_after_training_loses_nothing(folder, tmp_path, monkeypatch, capsys):
    run = Run(tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(
            "define.training.language_experiment.mean_nll",
            lambda *_: signal.raise_signal(signal.SIGTERM),
        )
        with pytest.raises(SystemExit) as exit:
            main(arguments(folder, run.path, *MORE))
    assert exit.value.code == 143 and not run.summary.exists()
    assert "stopped; the same command goes on" in capsys.readouterr().err
    at_step(monkeypatch, 1, killed)  # no step is left to do
    main(arguments(folder, run.path, *MORE))
    assert run.summary.exists()


def twice():
    with StopSignals() as signals:
        signals.waiting = True
        signal.raise_signal(signal.SIGTERM)
        assert signals.received == signal.SIGTERM
        signal.raise_signal(signal.SIGTERM)


def noted(number):
    signal.signal(number, signal.SIG_DFL)  # whoever started the tests may have had it ignored
    with StopSignals() as signals:
        signals.waiting = True
        signal.raise_signal(number)
        assert signals.received == number


@pytest.mark.parametrize("name", ["SIGHUP", "SIGUSR2", "SIGXCPU"])
def test_signals_of_other_batch_systems_and_of_a_closed_terminal(name):
    assert forked.exit_code(noted, getattr(signal, name)) == 0


def ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as signals:
        signal.raise_signal(signal.SIGHUP)
        assert signals.received is None


def test_what_is_ignored_stays_ignored_as_under_nohup():
    assert forked.exit_code(ignored) == 0


def test_a_second_signal_ends_the_process_at_once():
    assert forked.exit_code(twice) == -signal.SIGTERM


def test_stopped_from_python(folder, tmp_path, monkeypatch):
    run = Run(tmp_path / "run")
    at_step(monkeypatch, 3, lambda: signal.raise_signal(signal.SIGTERM))
    with pytest.raises(Stopped, match="in epoch 1, step 3") as error:
        experiment(folder, length=20).train(run)
    assert error.value.code == 143


class Executed:
    """Makes a folder when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


FILES = ("config.yaml", "vocabulary.txt", "model.safetensors", "checkpoints/last.ckpt")


@pytest.mark.parametrize("name", (*FILES, "checksums.json"))
@pytest.mark.parametrize("kind", ["pickle", "torch", "yaml"])
def test_nothing_in_a_run_is_executed(name, kind, folder, stopped, tmp_path):
    run, marker = stopped, tmp_path / "executed"
    run.previous_checkpoint.unlink()
    run.checksums.unlink()  # a stranger's would fit
    file = run.path / name
    if kind == "pickle":
        file.write_bytes(pickle.dumps(Executed(marker)))
    elif kind == "torch":
        torch.save({"state_dict": Executed(marker)}, file)
    else:
        file.write_text(f"# recipe: text\nseed: !!python/object/apply:os.mkdir ['{marker}']\n")
    for command in (["evaluate", str(run.path)], arguments(folder, run.path, *MORE)):
        if command[0] == "evaluate" and "checkpoints" in name:
            continue  # it reads none
        with pytest.raises(SystemExit) as exit:
            main(command)
        assert isinstance(exit.value.code, str) and not marker.exists()
        assert file.name in exit.value.code


@pytest.mark.parametrize("name", FILES[:3])
def test_a_flipped_bit_is_named(name, folder, stopped):
    run = stopped
    file = run.path / name
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for command in (["evaluate", str(run.path)], arguments(folder, run.path, *MORE)):
        with pytest.raises(SystemExit) as exit:
            main(command)
        assert str(file) in exit.value.code and "is damaged" in exit.value.code


@pytest.mark.parametrize("known", [True, False], ids=["", "without checksums"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    known, folder, whole, stopped, caplog
):
    run = stopped
    content = run.checkpoint.read_bytes()
    run.checkpoint.write_bytes(content[: len(content) // 2])
    if not known:
        run.checksums.unlink()
    main(arguments(folder, run.path, *MORE))
    assert f"{run.checkpoint} is damaged" in caplog.text and "one before" in caplog.text
    assert run.weights.read_bytes() == whole.weights.read_bytes()


def test_damaged_and_foreign_checkpoints_are_named(folder, stopped):
    run = stopped
    foreign = {"state_dict": {}, "epoch": 3}
    for file in (run.checkpoint, run.previous_checkpoint):
        torch.save(foreign, file)
    run.record(run.checkpoint, run.previous_checkpoint)
    with pytest.raises(SystemExit) as exit:
        main(arguments(folder, run.path, *MORE))
    assert f"{run.checkpoint} is no checkpoint of a run: it lacks" in exit.value.code
    assert str(run.previous_checkpoint) in exit.value.code


def test_a_kill_between_two_files_leaves_what_is_known(tmp_path, monkeypatch):
    run = Run(tmp_path)
    run.save_weights(torch.nn.Linear(2, 2).state_dict())
    before = run.weights.read_bytes()

    def killed_before_the_rename(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("define.files.os.replace", killed_before_the_rename)
        with pytest.raises(Killed):
            run.save_weights(torch.nn.Linear(2, 2).state_dict())
    assert run.weights.read_bytes() == before
    run.check(run.weights)
    run.save_weights(torch.nn.Linear(2, 2).state_dict())
    run.check(run.weights)
    assert len(json.loads(run.checksums.read_text())["model.safetensors"]) == 2


def test_weights_that_a_training_writes_while_they_are_checked_are_whole(tmp_path, monkeypatch):
    run, first = Run(tmp_path), []
    run.save_weights(torch.nn.Linear(2, 2).state_dict())

    def meanwhile(file):
        if not first:
            first.append(file)
            run.save_weights(torch.nn.Linear(2, 2).state_dict())
        return checksum(file)

    monkeypatch.setattr("define.training.run.checksum", meanwhile)
    run.check(run.weights)
    assert first


@pytest.mark.parametrize("name", ["config.yaml", "vocabulary.txt", "tables.json"])
def test_a_device_in_a_run_is_named(name, tmp_path):
    (tmp_path / name).symlink_to(os.devnull)
    with pytest.raises(ValueError, match=f"{name} is no file"):
        Run(tmp_path).check()


def test_what_cannot_be_read_again_is_not_saved(folder, tmp_path):
    class Odd(torch.optim.SGD):
        def __init__(self, parameters):
            super().__init__(parameters)
            self.param_groups[0]["note"] = Executed("nowhere")

    with pytest.raises(TypeError, match="'note'.* only tensors and numbers can be saved"):
        experiment(folder, length=20, optimizer=Odd, checkpoint_minutes=0).train(
            Run(tmp_path / "run")
        )


def test_a_run_that_is_in_use_says_by_whom(folder, tmp_path):
    run = Run(tmp_path / "run")
    run.path.mkdir()
    with run.locked(), pytest.raises(SystemExit) as exit:
        main(arguments(folder, run.path, *MORE))
    assert f"{run.path} is in use by process {os.getpid()} on " in exit.value.code
    assert " since 20" in exit.value.code
    main(arguments(folder, run.path, *MORE))


@pytest.mark.parametrize(
    ("there", "other", "said"),
    [
        ("whole", (), "is a finished run"),
        ("stopped", ("--seed", "7"), "has other settings"),
        ("stopped", (), None),
    ],
)
def test_a_training_that_was_begun_while_this_one_started(
    folder, whole, tmp_path, made, monkeypatch, there, other, said
):
    """Between the look at the folder and its lock: as if it had been there before."""
    run, begun = Run(tmp_path / "run"), dict(zip(("text", "whole", "stopped"), made, strict=True))
    make = settings.make_experiment

    def making(*args):
        shutil.copytree(begun[there].path, run.path)
        return make(*args)

    monkeypatch.setattr(settings, "make_experiment", making)
    command = arguments(folder, run.path, *MORE, *other)
    if said is None:
        main(command)
        assert run.weights.read_bytes() == whole.weights.read_bytes()
        return
    with pytest.raises(SystemExit, match=said):
        main(command)
    for file in ("config.yaml", "checkpoints/last.ckpt", "model.safetensors"):
        assert (run.path / file).read_bytes() == (begun[there].path / file).read_bytes()


def holding(path):
    with Run(path).locked():
        os.kill(os.getpid(), signal.SIGKILL)


def test_the_lock_of_a_dead_process_is_free(tmp_path):
    assert forked.exit_code(holding, tmp_path) == -signal.SIGKILL
    assert (tmp_path / ".holder.json").exists()
    with Run(tmp_path).locked():
        held = json.loads((tmp_path / ".holder.json").read_text())
        assert held["process"] == os.getpid()


def test_settings_are_written_once_and_those_of_the_machine_may_change(folder, stopped):
    run = stopped
    before = run.config.stat()
    main(arguments(folder, run.path, *MORE, "--training.checkpoint_minutes", "7"))
    after = run.config.stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_run_is_evaluated_from_elsewhere(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(folder.parent)
    main(arguments(folder.name, tmp_path / "run", *MORE))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    main(["evaluate", "../run"])
    assert "test perplexity" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", "is no file"),  # the best weights
        ("config.yaml", "is gone, and there is a checkpoint"),  # others would be taken
        ("vocabulary.txt", "is gone, and there is a checkpoint"),
    ],
)
def test_a_file_that_is_gone_is_missed_at_once(made, tmp_path, cache, monkeypatch, name, said):
    folder, _, stopped = made
    run = Run(shutil.copytree(stopped.path, tmp_path / "run"))
    (run.path / name).unlink()
    at_step(monkeypatch, 1, killed)
    with pytest.raises(SystemExit, match=f"{name} {said}"):
        main(arguments(folder, run.path, *MORE))
