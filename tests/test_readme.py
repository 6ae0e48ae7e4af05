"""The README does what it says.

Its Python blocks run one after the other in one namespace. Its lines `$ define ...` run in their
order too: DIR is a tiny text, and the runs are named runs/a, runs/b, ... in the order of training.
"""

import re
import shlex
from pathlib import Path

import pytest
import torch

from define.__main__ import main
from define.measures.counting import shapes_only
from define.measures.paper import paper_rows
from define.recipes.settings import make_experiment, recipe_parser

README = Path(__file__).parents[1] / "README.md"


def blocks(language):
    text = README.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def write_words(folder, types):
    """A text of so many words, each often enough in the training text to be in the vocabulary."""
    folder.mkdir()
    lines = [" ".join(f"w{line}x{place}" for place in range(9)) for line in range(types // 9)] * 3
    for split, end in (("train", None), ("valid", 30), ("test", 30)):
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines[:end]))


def test_python_blocks_run():
    names = {}
    found = blocks("python")
    assert len(found) >= 2
    for block in found:
        exec(compile(block, str(README), "exec"), names)
    assert torch.is_tensor(names["loss"]) and names["loss"].isfinite().all()


def test_code_comes_first():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") < 20


@pytest.mark.parametrize("target", ["demo", "test"])
def test_make_targets_are_there(target):
    assert f"$ make {target}" in README.read_text(encoding="utf-8")
    assert f"\n{target}:" in (README.parent / "Makefile").read_text(encoding="utf-8")


def test_commands_run(tmp_path, monkeypatch, capsys, cache):
    monkeypatch.chdir(tmp_path)
    write_words(tmp_path / "DIR", types=3600)  # more than the cutoffs of a recipe
    runs = iter("abcdefgh")
    commands = re.findall(r"^\$ define (.*)$", "".join(blocks("console")), re.MULTILINE)
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command, comments=True)
        if words[0] == "train" and "--run" not in words:
            words += ["--run", f"runs/{next(runs)}"]
        main(words)
        assert capsys.readouterr().out, command


def test_rows_of_the_paper_are_what_their_options_make(tmp_path, cache):
    """Context model and input-output part are the paper's; its units cannot be derived."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "words.txt").write_text("".join(f"w{i} 1\n" for i in range(267_733)))
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").write_text("w1 w2\n")
    data = ["--data.path", str(text), "--data.vocabulary", str(text / "words.txt")]
    rows = {row.name: row for row in paper_rows() if row.table.startswith("Table")}
    found = re.findall(r"^\| ([^|]+) \| `(wikitext-103.*)` \|$", README.read_text("utf-8"), re.M)
    assert len(found) == 8
    for name, command in found:
        recipe, *options = shlex.split(command)
        settings = recipe_parser(recipe).parse_args([*data, *options])
        with shapes_only():
            counts = make_experiment(recipe, settings).model.parameter_counts()
        shared = 820 if recipe == "wikitext-103" else 0  # the printed ones are without
        ours = counts.context - shared, counts.input_output
        assert ours == (rows[name].ours.context, rows[name].ours.input_output), name
        assert (counts.unit == 0) == rows[name].exact, name
