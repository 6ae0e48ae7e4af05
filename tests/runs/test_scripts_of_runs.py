"""The scripts of runs at toy size: that they end, go on, and write what they promise."""

import json
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import regimes
import torch
from methods import METHODS, Task
from tiny import write_text

from define.data import Text
from define.measures.measured import MEASURED

ROOT = Path(__file__).parents[2]
KEYS = [field.name for field in fields(regimes.Run)]


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text")


@pytest.fixture
def small(monkeypatch, tmp_path):
    """A regime of small bands and one rate, whose results go to a file of the test."""
    small = replace(
        regimes.REGIMES["ptb-adam"],
        cutoffs=(10, 30),
        learning_rates=(0.01,),
        unit_rates=(0.1,),
        stds=(0.2, 0.1),
        batch_size=4,
        length=10,
    )
    monkeypatch.setitem(regimes.REGIMES, "ptb-adam", small)
    monkeypatch.setattr(regimes, "FOUND", tmp_path / "found.jsonl")
    return tmp_path


def run_regime(folder, tmp_path, *more):
    checkpoints = str(tmp_path / "checkpoints")
    options = ["--data", str(folder), "--epochs", "2", "--checkpoints", checkpoints]
    return regimes.main(["ptb-adam", *options, "--budget", "0.67", *more])


def test_a_search_is_not_done_twice(folder, small, monkeypatch, capsys):
    run_regime(folder, small, "--methods", "adaptive")
    found = regimes.known()
    assert [(r["std"], r["epochs"]) for r in found][:2] == [(0.2, 1), (0.1, 1)]
    best = min(found[:2], key=lambda r: r["valid"])
    assert found[2]["std"] == best["std"] and found[2]["epochs"] == 2
    assert all(r["parameters"] <= 670_000 and len(r["history"]) == r["epochs"] for r in found)

    monkeypatch.setattr(regimes, "train", None)  # nothing is left to train
    run_regime(folder, small, "--methods", "adaptive")
    assert regimes.known() == found
    regimes.main(["table"])
    assert capsys.readouterr().out.count("| adaptive |") == 3


def test_a_result_is_of_its_text(folder, small, monkeypatch):
    once = ("--methods", "projected", "--no_search")
    run_regime(folder, small, *once)
    [found] = regimes.known()
    assert found["tokens"] == 2000
    train = regimes.train
    monkeypatch.setattr(regimes, "train", lambda *given: {**found, "tokens": 1000})
    other = write_text(small / "other", train=100)
    (small / "checkpoints" / f"{regimes.Run(**{k: found[k] for k in KEYS}).name}.pt").touch()
    run_regime(other, small, *once)
    assert [r["tokens"] for r in regimes.known()] == [2000, 1000]
    # Lines that say nothing of their text are of any.
    old = {key: value for key, value in found.items() if key not in ("tokens", "words")}
    regimes.FOUND.write_text(json.dumps(old) + "\n")
    monkeypatch.setattr(regimes, "train", None)
    run_regime(other, small, *once)

    run, data = regimes.Run(**{k: found[k] for k in KEYS}), Text(other)
    saved = small / "saved.pt"
    torch.save({"text": {"tokens": 2000, "words": found["words"]}}, saved)
    with pytest.raises(ValueError, match="is of another text"):
        train(run, data, saved, torch.device("cpu"))


def test_results_are_where_they_are_asked_for(folder, small, monkeypatch, capsys):
    file = small / "new" / "results.jsonl"
    run_regime(folder, small, "--methods", "adaptive", "--no_search", "--results", str(file))
    assert len(regimes.known(file)) == 1 and not regimes.known()
    regimes.main(["table", "--results", str(file)])
    assert "| ptb-adam | 2 | adaptive |" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        regimes.main(["table", "--results", str(small / "none")])
    assert "is no file" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option", ["--budget=0", "--epochs=0", "--share=0", "--share=1.5", "--std=-1", "--unit_rate=0"]
)
def test_numbers_out_of_range_are_refused(option, folder, small, monkeypatch, capsys):
    monkeypatch.setattr(regimes, "train", None)
    with pytest.raises(SystemExit):
        run_regime(folder, small, option)
    assert "must be above 0" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--learning_rate=1", "--unit_rate=1", "--std=1"])
def test_what_is_searched_for_is_not_given(option, folder, small, monkeypatch, capsys):
    monkeypatch.setattr(regimes, "train", None)
    with pytest.raises(SystemExit):
        run_regime(folder, small, option)
    assert "is searched for: add --no_search" in capsys.readouterr().err


def test_a_result_that_cannot_be_written_does_not_cost_the_run(folder, small, monkeypatch):
    regimes.FOUND.mkdir()
    with monkeypatch.context() as patch, pytest.raises(IsADirectoryError):
        patch.setattr(regimes, "train", None)  # it is said before
        run_regime(folder, small, "--methods", "projected", "--no_search")
    regimes.FOUND.rmdir()

    def fail():
        regimes.FOUND.unlink()
        regimes.FOUND.mkdir()

    with monkeypatch.context() as patch, pytest.raises(IsADirectoryError):
        patch.setattr(regimes, "_commit", fail)  # when all but the result is done
        run_regime(folder, small, "--methods", "projected", "--no_search")
    regimes.FOUND.rmdir()
    steps = []
    monkeypatch.setattr(regimes.nn.utils, "clip_grad_norm_", lambda *_: steps.append(None))
    run_regime(folder, small, "--methods", "projected", "--no_search")
    assert len(regimes.known()) == 1 and not steps  # all of it was there


def test_a_line_that_was_cut_off_is_named_before_the_first_run(folder, small, monkeypatch):
    regimes.FOUND.write_text('{"regime": "ptb-adam"}\n{"regime": "ptb-a')
    monkeypatch.setattr(regimes, "train", None)
    with pytest.raises(ValueError, match=r"found.jsonl, line 2 is no result"):
        run_regime(folder, small)


def test_a_method_that_does_not_fit_does_not_keep_the_next_from_running(folder, small, capsys):
    with pytest.raises(SystemExit):
        run_regime(folder, small, "--methods", "define-adaptive", "projected", "--no_search")
    out, err = capsys.readouterr()
    assert "define-adaptive: run.method='define-adaptive' has no width within" in err
    [found] = regimes.known()
    assert found["method"] == "projected"
    assert f"valid {found['valid']}, test {found['test']}, in {regimes.FOUND}" in out


def test_a_run_that_diverges_is_the_worst_and_no_end(folder, small, monkeypatch):
    diverging = replace(
        regimes.REGIMES["ptb-adam"], optimizer=torch.optim.SGD, clip=1e30, stds=(0.2,)
    )
    diverging = replace(diverging, learning_rates=(1e4, 0.1))
    monkeypatch.setitem(regimes.REGIMES, "ptb-adam", diverging)
    run_regime(folder, small, "--methods", "adaptive")
    first, *_, last = regimes.known()
    assert first["learning_rate"] == 1e4 and not first["valid"] < 1e99
    assert last["learning_rate"] == 0.1


def test_a_stopped_run_goes_on_to_the_same_numbers(folder, small, monkeypatch):
    run_regime(folder, small, "--methods", "projected", "--no_search")
    [whole] = regimes.known()
    regimes.FOUND.unlink()

    replaced = os.replace

    def stop(*paths):
        replaced(*paths)
        if str(paths[1]).endswith("random.pt"):
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", stop)
        run_regime(folder, small, "--methods", "projected", "--no_search")
    run_regime(folder, small, "--methods", "projected", "--no_search")
    [found] = regimes.known()
    for name in ("valid", "test", "train", "bands", "history"):
        assert found[name] == whole[name]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_learns(name, folder, small, tmp_path):
    corpus = Text(folder).open()
    task = Task(corpus.vocabulary.words, corpus.split("train"), 200, (10, 30), 0.2)
    run = regimes.Run("ptb-adam", 0.9, name, 0.01, 0.1, 0.2, 1)
    widths = METHODS[name].widths
    model = regimes.build(run, task, widths[min(30, len(widths) - 1)], tmp_path)
    tokens, targets = torch.randint(len(task.words), (2, 4, 10))
    model(tokens, targets)[0].mean().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_the_gpu_script_at_toy_size(folder, tmp_path):
    environment = os.environ | {"PYTHON": sys.executable}
    command = [ROOT / "runs" / "gpu.sh", folder, tmp_path / "out", "--dry"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "is not done" not in done.stderr and "failed" not in done.stderr
    names = ("standard", "adaptive", "DeFINE")
    assert all((tmp_path / "out" / name / "summary.json").exists() for name in names)
    assert "1 thread" in (tmp_path / "out" / "step-n_128.txt").read_text()
    assert json.loads((tmp_path / "out" / "bench" / "bench.json").read_text())["sections"]


# Of `define.measures.measured` those that this script trained: regime and epochs.
TRAINED = {
    "Penn Treebank, LSTM 2 × 200, 1 epoch": ("ptb-adam", 1),
    "Penn Treebank, LSTM 2 × 200, 15 epochs": ("ptb-adam", 15),
    "WikiText-2, LSTM 2 × 200, 6 epochs": ("wikitext-2-lstm", 6),
    "WikiText-2, Transformer-XL 4 × 200, 6 epochs": ("wikitext-2-transformer-xl", 6),
    "Wikipedia, 267,735 words, LSTM 2 × 768, 25 M tokens": ("wikipedia-lstm-25m", 1),
    "Wikipedia, 267,735 words, Transformer-XL 5 × 256, 25 M tokens": (
        "wikipedia-transformer-xl-25m",
        1,
    ),
}


@pytest.mark.parametrize("model", TRAINED)
def test_suggestions_rest_on_the_results(model):
    """Perplexities, means of seeds, and shares of parameters are those of the results."""
    (comparison,) = (c for c in MEASURED if c.model == model)
    regime, whole = regimes.REGIMES[TRAINED[model][0]], comparison.num_embeddings
    found = {}
    for line in regimes.known():
        run = regimes.Run(**{key: line[key] for key in KEYS})
        same = (run.regime, run.epochs) == TRAINED[model]
        if same and (run.start, run.share) == ("random", 1):
            group = found.setdefault((replace(run, seed=1), line["width"]), [])
            group.append((line["test"], line["parameters"]))
    for result in comparison.results:
        if result.share > 0.3:  # of `runs/embeddings.sh`
            continue
        method = "-".join(result.method.lower().split(", "))
        matching = []
        for (run, width), lines in found.items():
            mean = sum(test for test, _ in lines) / len(lines)
            if run.method == method and abs(mean - result.perplexity) <= 0.051:
                with torch.device("meta"):
                    words = ("",) * whole
                    task = Task(words, torch.ones(1), regime.embedding_dim, regime.cutoffs, 1.0)
                    backbone = regimes.build(run, task, width, ROOT).backbone
                own = lines[0][1] - sum(p.numel() for p in backbone.parameters())
                matching.append(own / (whole * regime.embedding_dim))
        assert any(abs(share - result.share) <= 0.00501 for share in matching), (result, matching)
