"""The README and the guide do what they say.

The blocks of a page run in their order: those in Python in one namespace, of those of a console
the lines `$ define ...`. DIR is a tiny text, and runs are named runs/a, runs/b, ... in the order
of training. Three novels are texts of a hundred paragraphs, and take few subwords and one epoch.
"""

import re
import shlex
from pathlib import Path

import pytest
import torch
from novels import write_novels

from define.__main__ import main
from define.measures.counting import shapes_only
from define.measures.paper import paper_rows
from define.recipes.settings import make_experiment, recipe_parser

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs" / "guide").glob("*.md"))]


def blocks(page):
    """The blocks of code of a page: their language and their text."""
    text = page.read_text(encoding="utf-8")
    return re.findall(r"^```(python|console)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def commands(block):
    """The arguments of a console's lines `$ define ...`."""
    lines = re.findall(r"^\$ define (.*)$", block.replace("\\\n", " "), re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


def write_words(folder, types):
    """A text of so many words, each often enough in the training text to be in the vocabulary."""
    folder.mkdir()
    lines = [" ".join(f"w{line}x{place}" for place in range(9)) for line in range(types // 9)] * 3
    for split, end in (("train", None), ("valid", 30), ("test", 30)):
        (folder / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines[:end]))


@pytest.mark.parametrize(
    "page", [page for page in PAGES if blocks(page)], ids=lambda page: page.stem
)
def test_blocks_run(page, tmp_path, monkeypatch, capsys, cache):
    monkeypatch.chdir(tmp_path)
    write_words(tmp_path / "DIR", types=3600)  # more than the cutoffs of a recipe
    if page.stem == "novels":
        write_novels(tmp_path / "novels", 100)
    runs, names = iter("abcdefgh"), {}
    for language, block in blocks(page):
        if language == "python":
            exec(compile(block, str(page), "exec"), names)
        else:
            for words in commands(block):
                if words[0] == "train" and "--run" not in words:
                    words += ["--run", f"runs/{next(runs)}"]
                if words[0] == "train" and "novels" in words:
                    words += ["--data.size", "300", "--training.epochs", "1"]
                capsys.readouterr()
                main(words)
                assert capsys.readouterr().out, words
    if "loss" in names:
        assert torch.is_tensor(names["loss"]) and names["loss"].isfinite().all()


def test_there_is_something_to_run():
    found = [language for page in PAGES for language, _ in blocks(page)]
    assert found.count("python") >= 10
    assert len([c for page in PAGES for _, block in blocks(page) for c in commands(block)]) >= 10


def test_code_comes_first():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert lines.index("```python") < 20


@pytest.mark.parametrize("target", ["demo", "test", "docs"])
def test_make_targets_are_there(target):
    assert f"make {target}" in README.read_text(encoding="utf-8")
    assert f"\n{target}:" in (README.parent / "Makefile").read_text(encoding="utf-8")


def test_rows_of_the_paper_are_what_their_options_make(tmp_path, cache):
    """Context model and input-output part are the paper's; its units cannot be derived."""
    text = tmp_path / "text"
    text.mkdir()
    (text / "words.txt").write_text("".join(f"w{i} 1\n" for i in range(267_733)))
    for split in ("train", "valid", "test"):
        (text / f"{split}.txt").write_text("w1 w2\n")
    data = ["--data.path", str(text), "--data.vocabulary", str(text / "words.txt")]
    rows = {row.name: row for row in paper_rows() if row.table.startswith("Table")}
    guide = (ROOT / "docs" / "guide" / "train.md").read_text("utf-8")
    found = re.findall(r"^\| ([^|]+) \| `(wikitext-103.*)` \|$", guide, re.M)
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
