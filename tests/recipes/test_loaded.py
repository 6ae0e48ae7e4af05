"""A run in Python: three lines from its folder to its model, its words, and what it says."""

import math
import shutil

import pytest
import torch
from tiny import arguments, cache_in, write_text

import define
from define.__main__ import main

OLD = "tests/fixtures/0.1/runs-finished"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    root = tmp_path_factory.mktemp("loaded")
    with cache_in(root / "cache"):
        more = ("--training.learning_rate", "0.03", "--training.epochs", "2")
        main(arguments(write_text(root / "text"), root / "run", *more))
    return define.load(root / "run")


def test_what_a_run_is(run):
    assert isinstance(run.model, define.LanguageModel) and not run.model.training
    assert len(run.vocabulary) == 50
    assert run.summary["embedding"] == "DeFINE"
    assert "DeFINE" in repr(run)


def test_perplexity_of_a_text(run):
    """The sum over tokens, each with all before it, line ends counted."""
    ids = run.vocabulary.encode(["<eos>", "w05", "w06", "w07", "<eos>", "w20", "<eos>"])
    with torch.no_grad():
        loss, _ = run.model(torch.tensor([ids[:-1]]), torch.tensor([ids[1:]]))
    expected = math.exp(loss.mean())
    assert run.perplexity("w05 w06 w07\nw20") == pytest.approx(expected, rel=1e-5)
    assert run.perplexity("w05 w06 w07\nw20\n") == pytest.approx(expected, rel=1e-5)
    assert run.perplexity("w05 w06 w07") < run.perplexity("w05 w26 w07")
    with pytest.raises(ValueError, match="empty"):
        run.perplexity("\n")


def test_generation_bans_and_ends_lines(run):
    assert run.generate("w05 w06", 3, temperature=0) == "w05 w06 w07 w08 w09"
    banned = run.generate("w05 w06", 3, temperature=0, ban=["w07"])
    assert banned.startswith("w05 w06 ") and "w07" not in banned
    flat = {"length": 300, "temperature": 50.0, "seed": 3}
    assert "<unk>" in run.generate(**flat)
    assert "<unk>" not in run.generate(**flat, ban=["<unk>"])
    assert run.generate(**flat, ban=["<unk>"], top_k=5).count("\n") >= 0
    lines = run.generate(**flat).splitlines()
    assert run.generate(**flat, lines=2).splitlines() == lines[:2]
    for wrong in ({"ban": ["w99"]}, {"lines": 0}, {"ban": ["w07"], "top_k": 50}):
        with pytest.raises(ValueError, match="w99|lines=0|top_k=50"):
            run.generate("w05", 3, **wrong)


@pytest.mark.parametrize("options", [{}, {"top_k": 3}, {"ban": ["<unk>"]}])
def test_a_temperature_near_zero_takes_the_likeliest(run, options):
    cold = run.generate("w05 w06", 3, temperature=1e-45, **options)
    assert cold == "w05 w06 w07 w08 w09"


def test_different_prompts_with_one_seed_go_different_ways(run):
    """The model hardly remembers: draws that agree would lead to the same words."""
    flat = {"length": 60, "temperature": 50.0}
    one, two = (run.generate(prompt, **flat).split() for prompt in ("w05", "w06"))
    assert sum(a == b for a, b in zip(one[1:], two[1:], strict=False)) < 20
    assert run.generate("w05", **flat).split() == one


def test_a_translation_run(tmp_path, request):
    old = request.config.rootpath / OLD / "translation"
    run = define.load(shutil.copytree(old, tmp_path / "translation"))
    assert len(run.translate(["ba be.", "bo."])) == 2
    with pytest.raises(ValueError, match="evaluate"):
        run.perplexity("ba be.")
    with pytest.raises(ValueError, match="translates"):
        run.generate("ba")
