"""What cannot be is said in one line, and nothing is lost."""

import pytest
from messages import failure, usage
from tiny import Killed, arguments

from define.__main__ import main
from define.training.language_modeling import LanguageModeling


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
        (("--embedding_std", "-1"), ["do not make a model", "-1"]),
        (("--embedding_std", "0", "--training.start_from_text", "true"), ["std=0"]),
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

    assert f"--start_from {finished.path}" in message
    further = arguments(trained[0], tmp_path / "further", "--start_from", str(finished.path))
    main([*further, "--training.epochs", "2"])
    capsys.readouterr()

    message = failure(capsys, *arguments(tmp_path / "nowhere", finished.path))
    assert message == f"define: --data.path {tmp_path / 'nowhere'} does not exist."
    message = failure(capsys, *arguments(trained[0], finished.path, "--seed", "2"))
    assert "other settings" in message and str(finished.config) in message
    assert "learning_rate: 0.03" in message and "learning_rate: 0.008" in message
    assert finished.summary.read_bytes() == before

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr("define.training.language_experiment.mean_nll", _killed)
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


def test_places_that_cannot_be_written_are_named_first(trained, folder, tmp_path, capsys):
    """Before a text is read, a model made or a report measured."""
    file = tmp_path / "file"
    file.write_text("")
    for command in (
        arguments(folder, file),
        arguments(folder, file / "run"),
        ("analyze", trained[1].path, "--output", file),
        ("export", trained[1].path, "--output", file / "out"),
        ("compress", trained[1].path, "--share", 0.5, "--output", file / "out"),
    ):
        message = failure(capsys, *command)
        assert message.endswith(f"{file} is no folder."), message
        assert command[0] != "train" or not (tmp_path / "cache").exists()


def test_a_folder_of_a_model_is_no_text(trained, tmp_path, capsys):
    message = failure(capsys, *arguments(trained[1].path, tmp_path / "run"))
    assert f"{trained[1].path} is no text but a model" in message


@pytest.mark.parametrize("option", ["--run", "--data.path", "--run=", "--embedding"])
def test_an_empty_variable_is_no_value(option, folder, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    more = (option,) if option.endswith("=") else (option, "")
    said = usage(capsys, *arguments(folder, tmp_path / "run", *more))
    assert f"{option.rstrip('=')} is given an empty value" in said
    assert not (tmp_path / "config.yaml").exists()


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


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt])
def test_an_interruption_is_one_line(folder, tmp_path, capsys, monkeypatch, interrupt):
    def step(*_):
        raise interrupt

    monkeypatch.setattr("define.training.language_experiment.mean_nll", step)
    command = arguments(folder, tmp_path / "run", "--training.length", "50")
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert exit.value.code == 130
    assert capsys.readouterr().err.splitlines()[-1] == "define: interrupted"


def test_settings_stay_as_they_were_without_a_step(folder, tmp_path, capsys, monkeypatch):
    """A wrong start leaves a folder that the same command goes on with."""
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(LanguageModeling, "training_step", _killed)
        with pytest.raises(Killed):
            main(arguments(folder, run))
    main(arguments(folder, run))
    assert (run / "summary.json").exists()


def test_more_memory_than_there_is_is_one_line(folder, tmp_path, capsys):
    command = arguments(folder, tmp_path / "run", "--embedding.map", "2000000000000")
    assert "allocate" in failure(capsys, *command)
