"""The commands, from their arguments to what they print."""

import contextlib
import json
import math
import os
import signal
import subprocess
import sys

import pytest
import torch
import yaml
from tiny import Killed, arguments, cache_in, experiment, write_text

from define.__main__ import main
from define.command_line import RECIPES
from define.data import Segments
from define.recipes import evaluate
from define.training import Run, mean_nll
from define.training.language_modeling import LanguageModeling


@pytest.fixture(autouse=True)
def _cache(tmp_path):
    with cache_in(tmp_path / "cache"):
        yield


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The run of a trained model and its text."""
    root = tmp_path_factory.mktemp("trained")
    folder, run = write_text(root / "text"), Run(root / "define")
    with cache_in(root / "cache"):
        main(arguments(folder, run.path, "--training.learning_rate", "0.03"))
    return folder, run


def failure(capsys, *command):
    """What a command says when it fails: one line, exit code 1."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as exit:
        main([str(part) for part in command])
    message = exit.value.code
    assert isinstance(message, str)  # Python prints it and exits with 1
    assert message.startswith("define: ") and "\n" not in message
    assert "Traceback" not in capsys.readouterr().err
    return message


def usage(capsys, *command):
    """What the parser says of arguments that it cannot read: exit code 2, as usual."""
    with pytest.raises(SystemExit) as exit:
        main([str(part) for part in command])
    assert exit.value.code == 2
    return capsys.readouterr().err


def test_train_prints_a_row_and_goes_on_no_further(trained, tmp_path, capsys):
    folder, run = trained
    main(arguments(folder, tmp_path / "run", "--training.learning_rate", "0.03"))
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert f"{summary['test_perplexity']:.2f}" in out and "| run " in out
    # The same settings, the same numbers.
    other = json.loads(run.summary.read_text())
    assert summary["history"] == other["history"]
    assert summary["test_perplexity"] == other["test_perplexity"] < 20


def test_evaluate_prints_the_perplexity_of_a_split(trained, capsys):
    folder, run = trained
    summary = json.loads(run.summary.read_text())
    main(["evaluate", str(run.path)])
    expected = f"{run.path}: test perplexity {summary['test_perplexity']:.2f}\n"
    assert capsys.readouterr().out == expected
    main(["evaluate", str(run.path), "--split", "valid"])
    assert f"valid perplexity {summary['valid_perplexity']:.2f}" in capsys.readouterr().out
    main(["evaluate", str(run.path), "--batch_size", "1"])
    setting = experiment(folder)
    expected = evaluate(setting, run, batch_size=1)
    assert f"{expected:.2f}" != f"{summary['test_perplexity']:.2f}"
    assert f"test perplexity {expected:.2f}" in capsys.readouterr().out


def test_evaluate_with_a_cache(trained, capsys):
    _, run = trained
    main(["evaluate", str(run.path)])
    plain = capsys.readouterr().out.strip()
    main(["evaluate", str(run.path), "--cache.size", "30", "--cache.weight", "0"])
    assert capsys.readouterr().out == f"{plain} with cache size 30, theta 0.66, weight 0.0\n"
    main(["evaluate", str(run.path), "--tune_cache"])
    assert "with cache size 2000, theta " in capsys.readouterr().out
    assert "size=-1" in failure(capsys, "evaluate", run.path, "--cache.size", -1)


def test_evaluate_finds_a_text_that_was_moved(tmp_path, folder, capsys):
    main(arguments(folder, tmp_path / "run", "--training.length", "50"))
    folder.rename(tmp_path / "moved")
    message = failure(capsys, "evaluate", tmp_path / "run")
    assert str(folder) in message
    main(["evaluate", str(tmp_path / "run"), "--data.path", str(tmp_path / "moved")])
    assert "test perplexity" in capsys.readouterr().out


def test_evaluate_uses_the_vocabulary_of_the_run(tmp_path, folder, capsys):
    main(arguments(folder, tmp_path / "run", "--training.length", "50"))
    main(["evaluate", str(tmp_path / "run")])
    before = capsys.readouterr().out.splitlines()[-1]
    with (folder / "train.txt").open("a") as file:
        file.write("many many new new words words\n")
    main(["evaluate", str(tmp_path / "run")])
    assert capsys.readouterr().out.splitlines()[-1] == before


def test_generate_continues_a_prompt_without_the_text(tmp_path, capsys):
    folder = write_text(tmp_path / "text")
    more = ("--training.learning_rate", "0.03", "--training.epochs", "2")
    main(arguments(folder, tmp_path / "run", *more))
    folder.rename(tmp_path / "gone")
    capsys.readouterr()
    generate = ["generate", str(tmp_path / "run"), "--prompt", "w05 w06", "--length", "3"]
    main([*generate, "--temperature", "0"])
    assert capsys.readouterr().out == "w05 w06 w07 w08 w09\n"  # it learned to count
    samples = []
    for seed in (1, 1, 2):
        main([*generate[:-1], "30", "--top_k", "20", "--seed", str(seed)])
        samples.append(capsys.readouterr().out)
    assert samples[0] == samples[1] != samples[2]
    assert "<eos>" not in samples[0] and samples[0].count("\n") > 1
    main(["generate", str(tmp_path / "run"), "--length", "5"])
    assert len(capsys.readouterr().out.split()) >= 4


def test_compare_has_a_row_for_each_run_and_a_figure(trained, tmp_path, capsys, monkeypatch):
    folder, run = trained
    same = ("--training.learning_rate", "0.03")
    main(arguments(folder, tmp_path / "other", "--seed", "2", *same))
    capsys.readouterr()
    figure = tmp_path / "figure.svg"
    both = [str(run.path), str(tmp_path / "other")]
    main(["compare", *both, "--figure", str(figure)])
    out = capsys.readouterr().out
    assert "| define " in out and "| other " in out and "test ppl" in out
    assert figure.read_text().count("<svg") == 1
    main(["compare", *both, "--figure", str(figure), "--average_seeds"])
    assert "(2)" in capsys.readouterr().out
    main(arguments(folder, tmp_path / "longer", *same, "--training.length", "50"))
    capsys.readouterr()
    main(["compare", both[0], str(tmp_path / "longer"), "--figure", str(figure), "--average_seeds"])
    assert "(2)" not in capsys.readouterr().out  # no seeds of one setting
    monkeypatch.chdir(tmp_path)
    main(["compare", *both, "--json"])
    summaries = json.loads(capsys.readouterr().out)
    assert [summary["name"] for summary in summaries] == ["define", "other"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_parameters_as_json(capsys):
    main(["parameters", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 20 and all(isinstance(row, dict) for row in rows)


def test_embeddings_prints_the_costs(capsys):
    main(["embeddings", "--num_embeddings", "50000", "--embedding_dim", "512"])
    out = capsys.readouterr().out
    assert "DeFINE" in out and "25.60" in out  # 50,000 x 512, in millions


@pytest.mark.parametrize("name", RECIPES)
def test_printed_settings_can_be_fed_back(name, tmp_path, capsys):
    data = [] if name == "pydocs" else ["--data.path", str(tmp_path)]

    def printed(*more):
        with pytest.raises(SystemExit) as exit:
            main(["train", name, *more, "--print_config"])
        assert exit.value.code == 0
        return capsys.readouterr().out

    first = printed(*data, "--seed", "7", "--training.epochs", "9", "--embedding_std", "0.5")
    settings = yaml.safe_load(first)
    assert settings["embedding"] is None or settings["embedding"]["class_path"] == "define.DeFINE"
    assert (settings["seed"], settings["training"]["epochs"]) == (7, 9)
    assert settings["embedding_std"] == 0.5
    (tmp_path / "config.yaml").write_text(first)
    assert printed("--config", str(tmp_path / "config.yaml")) == first
    assert printed("--config", str(tmp_path / "config.yaml"), "--seed", "8") != first


def test_the_configuration_of_a_run_is_the_whole_command(trained, tmp_path, capsys):
    folder, run = trained
    again = ("train", "text", "--config", run.config, "--run")
    assert "finished run" in failure(capsys, *again, run.path)
    main([*map(str, again), str(tmp_path / "again")])
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == run.weights.read_bytes()
    assert (tmp_path / "again" / "config.yaml").read_bytes() == run.config.read_bytes()


@pytest.mark.parametrize(
    ("option", "values"),
    [
        (("--embedding.max_groups", "7"), ["7"]),
        (("--embedding.expand_dim", "4"), ["4", "8"]),
        (("--embedding.map", "0"), ["map=0"]),
        (("--cutoffs", "[30,10]"), ["30", "10"]),
        (("--cutoffs", "[1000]"), ["1000"]),
        (("--training.batch_size", "0"), ["batch_size=0"]),
        (("--training.devices", "3"), ["devices=3", "batch_size=4"]),
        (("--data.max_size", "1"), ["max_size=1"]),
        (("--training.batch_size", "5000"), ["5000", "2000 tokens"]),
    ],
)
def test_wrong_values_are_named(option, values, folder, tmp_path, capsys, unchecked):
    command = arguments(folder, tmp_path / "run", *option)
    try:
        message = failure(capsys, *command)
    except AssertionError:  # the parser itself saw it
        message = usage(capsys, *command)
    assert all(value in message for value in values)
    # Corrected, the same folder can be used.
    main(arguments(folder, tmp_path / "run", "--training.length", "50"))


def test_wrong_texts_are_named(folder, tmp_path, capsys):
    run = tmp_path / "run"
    text = (folder / "train.txt").read_text()

    (folder / "valid.txt").rename(tmp_path / "valid.txt")
    message = failure(capsys, *arguments(folder, run))
    assert str(folder) in message and "'valid'" in message
    (tmp_path / "valid.txt").rename(folder / "valid.txt")

    (folder / "train.txt").write_text(" \n\n")
    message = failure(capsys, *arguments(folder, run))
    assert str(folder / "train.txt") in message and "empty" in message

    (folder / "train.txt").write_bytes(text.encode() + b"w01 \xff w02\n")
    message = failure(capsys, *arguments(folder, run))
    assert f"{folder / 'train.txt'}, line 201" in message and "UTF-8" in message

    message = failure(capsys, *arguments(tmp_path / "nowhere", run))
    assert str(tmp_path / "nowhere") in message


def test_a_run_folder_is_not_used_twice(trained, folder, tmp_path, capsys, monkeypatch):
    _, finished = trained
    before = finished.summary.read_bytes()
    message = failure(
        capsys, *arguments(trained[0], finished.path, "--training.learning_rate", "0.03")
    )
    assert "finished run" in message and str(finished.path) in message

    message = failure(capsys, *arguments(trained[0], finished.path, "--seed", "2"))
    assert "other settings" in message and str(finished.config) in message
    assert "learning_rate: 0.03" in message and "learning_rate: 0.008" in message
    assert finished.summary.read_bytes() == before

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("define.recipes.experiment.mean_nll", _killed)
        with pytest.raises(Killed):
            main(arguments(folder, run))
    with (folder / "train.txt").open("a") as file:
        file.write("new new\n")
    message = failure(capsys, *arguments(folder, run))
    assert "50 words" in message and "51" in message and str(run) in message


def _killed(*_):
    raise Killed


def test_commands_on_what_is_no_run(trained, tmp_path, capsys):
    folder, run = trained
    for command in ("evaluate", "generate", "compare"):
        message = failure(capsys, command, folder)
        assert str(folder) in message and "no trained run" in message
    assert "'dev'" in failure(capsys, "evaluate", run.path, "--split", "dev")
    assert "batch_size=0" in failure(capsys, "evaluate", run.path, "--batch_size", 0)
    assert "k=0" in failure(capsys, "generate", run.path, "--top_k", 0)
    assert "-1" in failure(capsys, "generate", run.path, "--length", -1)
    message = failure(capsys, "evaluate", run.path, "--data.path", tmp_path / "nowhere")
    assert str(tmp_path / "nowhere") in message


def test_a_configuration_that_was_tampered_with(trained, tmp_path, capsys):
    _, run = trained
    for file in (run.vocabulary, run.weights):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = run.config.read_text()
    (tmp_path / "config.yaml").write_text(text.replace("# recipe: text", "# recipe: txt"))
    assert "txt" in failure(capsys, "evaluate", tmp_path)
    (tmp_path / "config.yaml").write_text(text.replace("hidden_size: 8", "hidden_size: 12"))
    assert "does not fit the model" in failure(capsys, "evaluate", tmp_path)


def test_a_loss_that_explodes_is_one_line(folder, tmp_path, capsys):
    message = failure(
        capsys,
        *arguments(folder, tmp_path / "run", "--training.length", "50"),
        *("--training.optimizer", "torch.optim.SGD", "--training.learning_rate", "1e38"),
        *("--training.clip", "0", "--training.schedule", "Constant"),
    )
    assert "loss is" in message and "in epoch 1, after" in message and "e+38" in message
    assert not (tmp_path / "run" / "summary.json").exists()


def test_unknown_commands_and_recipes(capsys):
    message = failure(capsys, "trian")
    assert "'trian'" in message and "train" in message
    assert "penn-treebank" in usage(capsys, "train", "nothing")
    assert "colour" in usage(capsys, "train", "pydocs", "--colour", "1")
    assert "many" in usage(capsys, "train", "pydocs", "--seed", "many")


@pytest.mark.parametrize("command", [[], ["--help"], ["-h"]])
def test_help_names_the_commands(command, capsys):
    main(command)
    out = capsys.readouterr().out
    names = ("train", "evaluate", "generate", "translate", "compare", "parameters", "embeddings")
    for name in names:
        assert f"\n  {name} " in out
    assert all(len(line) <= 100 for line in out.splitlines())


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt])
def test_an_interruption_is_one_line(folder, tmp_path, capsys, monkeypatch, interrupt):
    def step(*_):
        raise interrupt

    monkeypatch.setattr("define.recipes.experiment.mean_nll", step)
    command = arguments(folder, tmp_path / "run", "--training.length", "50")
    assert failure(capsys, *command) == "define: interrupted"


IMPORTED = """
import contextlib, io, sys
from define.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
heavy = ("torch", "torch._dynamo", "lightning", "matplotlib", "tensorboard", "transformers")
print(*(name for name in heavy if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("command", "heavy"),
    [
        (["--help"], ""),
        (["parameters"], "torch"),
        (["embeddings", "--num_embeddings", "9000", "--embedding_dim", "256"], "torch"),
        (["train", "--help"], "torch"),
        (["compress", "--help"], ""),
        (["generate", "RUN", "--length", "2"], "torch"),
    ],
)
def test_quick_commands_import_little(command, heavy, trained):
    command = [str(trained[1].path) if part == "RUN" else part for part in command]
    process = subprocess.run(
        [sys.executable, "-c", IMPORTED, *command], capture_output=True, text=True, timeout=900
    )
    assert process.returncode == 0, process.stderr
    assert process.stdout.split() == heavy.split()


TWO_PROCESSES = """
import json, os, sys
from define.__main__ import main
from define.training.language_modeling import LanguageModeling
end, step = LanguageModeling.on_validation_epoch_end, LanguageModeling.training_step
first = []
def noting(self):
    end(self)
    found = {"perplexity": self.trainer.callback_metrics["valid_perplexity"].item(), "first": first}
    with open(os.environ["NOTES"] + str(self.trainer.global_rank), "w") as file:
        json.dump(found, file)
def stepping(self, batch):
    first or first.extend(batch[0][:, 0].tolist())
    return step(self, batch)
LanguageModeling.on_validation_epoch_end = noting
LanguageModeling.training_step = stepping
main(sys.argv[1:])
"""


def test_two_processes_share_the_columns(folder, tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO_PROCESSES)
    run = Run(tmp_path / "run")
    more = ("--training.devices", "2", "--training.length", "20", "--cutoffs", "[10,30]")
    out, err = tmp_path / "out", tmp_path / "err"
    with out.open("w") as stdout, err.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, str(script), *arguments(folder, run.path, *more)],
            stdout=stdout,
            stderr=stderr,
            env={**os.environ, "NOTES": str(tmp_path / "rank")},
            start_new_session=True,
        )
        try:
            assert process.wait(timeout=900) == 0, err.read_text()
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # the second process would wait for ever
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
    assert out.read_text().count("test ppl") == 1
    assert [path.name for path in (run.path / "logs").iterdir()] == ["version_0"]
    saved = torch.load(run.checkpoint, weights_only=False)["processes"]
    assert not torch.equal(saved[0]["carried"][0][0], saved[1]["carried"][0][0])


def test_settings_stay_as_they_were_without_a_step(folder, tmp_path, capsys, monkeypatch):
    """A wrong start leaves a folder that the same command goes on with."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModeling, "training_step", _killed)
        with pytest.raises(Killed):
            main(arguments(folder, run))
    main(arguments(folder, run))
    assert (run / "summary.json").exists()
