"""What is misspelled is asked back, help is short first, and a closed pipe ends in silence."""

import io
import logging
import re
import subprocess
import sys

import pytest
from messages import failure, usage
from tiny import arguments

from define.__main__ import main
from define.commands import COMMANDS
from define.recipes.settings import RECIPES
from define.suggestions import did_you_mean

TEXT = ("train", "text", "--data.path", "DIR")
DEEP = ("--embedding", "DeFINE")


@pytest.mark.parametrize(
    ("command", "meant"),
    [
        ((*TEXT, "--epochs", "3"), "--training.epochs"),
        ((*TEXT, "--training.epoch", "3"), "--training.epochs"),
        ((*TEXT, "--embedding", "DeFine"), "DeFINE"),
        ((*TEXT, "--embedding", "ProjectEmbedding"), "ProjectedEmbedding"),
        ((*TEXT, "--embedding", "DeFINE", "--embedding.expand_dims", "3"), "expand_dim"),
        ((*TEXT, "--training.schedule", "Cosin"), "Cosine"),
        ((*TEXT, "--training.optimizer", "SDG"), "SGD"),
        ((*TEXT, "--embedding", "DeFINE", "--embedding.activation", "relu"), "ReLU"),
        (("train", "pydocs", "--embedding.activation", "relu"), "ReLU"),
        ((*TEXT, "--tie", "embeding"), "embedding"),
        (("train", "pydoc"), "pydocs"),
        (("evaluate", "RUN", "--splt", "test"), "--split"),
    ],
)
def test_what_was_meant_is_asked(command, meant, capsys):
    said = usage(capsys, *command)
    assert f"Did you mean {meant}" in said
    assert said.startswith("define") and said.count("\n") <= 2
    assert "collections.abc" not in said and "Namespace" not in said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ((*DEEP, "--embedding.depth", "abc"), "--embedding.depth: Expected int. Got value: abc."),
        (
            (*DEEP, "--embedding.map", "abc"),
            "--embedding.map: abc is none of these: int, Module, Callable.",
        ),
        (
            ("--embedding.depth", "7"),
            "--embedding: depth is an argument of a class: name the class too.",
        ),
        (("--embedding", "define.LSTM"), "--embedding: Expected 'define.LSTM' to be a subclass of"),
        (("--data.tokens", "1.5"), "--data.tokens: 1.5 is none of these: int, null."),
        (
            ("--cutoffs", "10,20"),
            "--cutoffs: Expected a list such as [1,2]. Got value: 10,20.",
        ),
        (
            ("--embedding", "nn.Embedding"),
            "--embedding: No module named 'nn', but torch.nn.",
        ),
    ],
)
def test_a_value_that_is_none_is_named_in_few_words(options, words, capsys):
    said = usage(capsys, *TEXT, *options)
    assert f"define train text: {words}" in said and len(said) < 200


def test_commands_that_were_meant(capsys):
    assert "Did you mean train?" in failure(capsys, "trian")
    assert "The commands are train, runs, evaluate" in failure(capsys, "xyz")
    assert did_you_mean("xyz", ["train"]) == ""


@pytest.mark.parametrize(
    "command", [(*TEXT, "--training.epo", "3"), (*TEXT, "--see", "2"), ("parameters", "--js")]
)
def test_abbreviations_are_not_accepted(command, capsys):
    assert "Unrecognized arguments" in usage(capsys, *command)


def test_a_required_option_is_named_as_it_is_written(capsys):
    assert "required: --data.path." in usage(capsys, "train", "text")


def printed(capsys, *command):
    capsys.readouterr()
    try:
        main(list(command))
    except SystemExit as exit:
        assert not exit.code
    return capsys.readouterr().out


def test_help_of_train_names_all_recipes(capsys):
    out = printed(capsys, "train", "--help")
    assert all(f"\n  {name} " in out for name in RECIPES)
    assert out.index("one CPU core") < out.index("a GPU")


@pytest.mark.parametrize("command", [*COMMANDS[1:], "train text", "train wmt14"])
def test_defaults_are_shown_as_one_types_them(command, capsys):
    option = "--help-all" if command.startswith("train") else "--help"
    out = " ".join(printed(capsys, *command.split(), option).split())
    found = re.findall(r"default: ([^()]*)", out)
    assert found or command in ("parameters", "export", "translate")
    assert not [text for text in found if re.match(r"null|False|True|\(|\['|{|$", text)]


@pytest.mark.parametrize("recipe", RECIPES)
def test_help_of_a_recipe_is_short_first(recipe, capsys):
    short = printed(capsys, "train", recipe, "--help")
    whole = printed(capsys, "train", recipe, "--help-all")
    assert short.count("\n") < 50 < whole.count("\n")
    for option in ("--embedding ", "--training.epochs ", "--seed "):
        assert f"\n  {option}" in short and f"\n  {option}" in whole
    assert "--training.clip " not in short and "--training.clip " in whole
    assert "--help-all" in short
    assert not re.search("SUPPRESS|:func:|:class:|:meth:", short + whole)
    assert ("usage: define train" in short) and ("--data.path PATH" in short) == (
        recipe != "pydocs"
    )


def test_a_reader_that_has_enough_is_no_error():
    command = f"{sys.executable} -m define parameters | head -n 1; exit ${{PIPESTATUS[0]}}"
    process = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=900, check=False
    )
    assert process.stderr == ""
    assert process.stdout.count("\n") == 1
    assert process.returncode in (0, 141)  # 0 where all fits into the pipe before it closes


def test_what_an_encoding_does_not_know_is_written_with_escapes(monkeypatch):
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    main(["parameters"])
    assert rb"\u2013" in out.buffer.getvalue()


@pytest.mark.parametrize("stream", ["stdin", "stdout", "stderr"])
def test_a_closed_stream_is_no_error(stream, monkeypatch):
    monkeypatch.setattr(sys, stream, None)
    main(["--version"])
    getattr(sys, stream).close()  # what stands for it


def test_the_version(capsys):
    from define import __version__

    assert printed(capsys, "--version") == f"define {__version__}\n"


def test_training_says_what_it_trains_and_what_comes_next(folder, tmp_path, cache, caplog):
    with caplog.at_level(logging.INFO, "define"):
        main(arguments(folder, run := tmp_path / "a run", "--training.length", "50"))
    first, second, *between, last = caplog.messages
    lines = [text for text in between if "loss" in text]
    line = r"a run: epoch 1 of 1, +\d+%, loss [\d.]+, rate [\d.e-]+, [\d,]+ tokens/s, [\d:]+ left"
    assert len(lines) >= 4 and all(re.fullmatch(line, text) for text in lines)
    assert lines[-1].endswith(" 0:00:00 left")
    # An LSTM of 8 x 8: 4 x 8 x (8 + 8 + 2); the Map of 50 x 8 and a bias for each word.
    parts = "596 of the unit, 576 of the context model, 450 of input and output"
    assert first == f"{run}: DeFINE(50, 8); 1,622 parameters: {parts}"
    assert second == f"{run}: CPU, devices 1, numbers 32-true, learning rate 0.008, epochs 1"
    assert f"define generate '{run}'," in last and f"define.load('{run}')" in last


def test_in_a_terminal_one_line_changes(folder, tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    main(arguments(folder, tmp_path / "run", "--training.epochs", "2"))
    captured = capsys.readouterr()
    assert re.search(r"\r\x1b\[Krun: epoch 1 of 2, +\d+%, loss .* tokens/s, ", captured.err)
    assert "Epoch 0" not in captured.err + captured.out


def test_types_that_say_nothing_are_left_out_of_help(capsys):
    out = printed(capsys, "analyze", "--help")
    assert "<class" not in out and "--output OUTPUT" in out
