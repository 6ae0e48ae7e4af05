import csv
import json
import random
import shutil

import pytest
import torch
from safetensors.torch import save_file

from define.__main__ import main
from define.commands.common import summary_of
from define.data import Vocabulary
from define.training import Run

WORDS = "the a cat dog bird sees hears likes small large and of in house tree river".split()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Two tiny runs of one text, trained for a few steps."""
    folder, draw = tmp_path_factory.mktemp("runs"), random.Random(0)
    (folder / "text").mkdir()
    for split, lines in (("train", 100), ("valid", 20), ("test", 20)):
        text = "".join(" ".join(draw.choices(WORDS, k=9)) + "\n" for _ in range(lines))
        (folder / "text" / f"{split}.txt").write_text(text)
    unit = ("--embedding.map", "8", "--embedding.expand_dim", "16", "--embedding.max_groups", "2")
    main(train(folder, folder / "standard", "torch.nn.Embedding"))
    main(train(folder, folder / "DeFINE", "DeFINE", *unit))
    return folder


def train(folder, run, embedding, *more):
    return [
        *("train", "text", "--run", str(run), "--data.path", str(folder / "text")),
        *("--data.min_count", "1", "--data.cache", str(folder / "cache")),
        *("--embedding_dim", "12", "--hidden_size", "8", "--training.epochs", "1"),
        *("--training.batch_size", "4", "--training.evaluation_batch_size", "4"),
        *("--training.log_correlation", "true", "--training.accelerator", "cpu"),
        *("--embedding", embedding, *more),
    ]


def test_correlation_is_logged_at_each_validation(runs):
    for name in ("standard", "DeFINE"):
        with (runs / name / "logs" / "version_0" / "metrics.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["valid_perplexity"]]
        assert len(rows) == 1
        assert 0 < float(rows[0]["embedding_correlation"]) < 1
        assert 1 < float(rows[0]["embedding_effective_rank"]) <= 12


def test_analyze_writes_a_report(runs, tmp_path, capsys, caplog):
    size = len(Vocabulary.read(runs / "DeFINE" / "vocabulary.txt"))
    save_file({"wte": torch.randn(size, 7)}, tmp_path / "other.safetensors")
    table = str(tmp_path / "other.safetensors")
    folders = [str(runs / name) for name in ("standard", "DeFINE")]
    options = ["--words", "cat", "zebra", "tree", "--compare-with", folders[0], table]
    main(["analyze", *folders, "--output", str(tmp_path / "report"), *options])
    assert capsys.readouterr().out.strip() == str(tmp_path / "report" / "report.html")
    assert "'zebra' is not among the 18 words of the vocabulary: left out." in caplog.text
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    for expected in ("| tree ", "other.safetensors", "Expand 1", "# recipe: text", "linear CKA"):
        assert expected in text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--words", "zebra"], r"'zebra' is not among the \d+ words"),
        (["--compare-with", "gone.npy"], "gone.npy is neither a run's folder nor a file"),
        (["--split", "dev"], "no split 'dev'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(runs, tmp_path, options, message):
    with pytest.raises(SystemExit, match=message):
        main(["analyze", str(runs / "DeFINE"), "--output", str(tmp_path), *options])
    assert not list(tmp_path.iterdir())


def test_an_epoch_is_that_of_training_however_many_validations_it_has(runs, tmp_path):
    """Eight validations of 20 batches come after each second one: there are ten."""
    options = ["--training.validations", "8", "--training.epochs", "2"]
    main(train(runs, tmp_path / "run", "torch.nn.Embedding", *options, "--training.length", "13"))
    summary = summary_of(Run(tmp_path / "run"))
    assert len(summary.history) == 20
    assert summary.epoch_tokens == summary.tokens / 2


def test_two_tables_of_one_name_are_refused(runs, tmp_path):
    other = tmp_path / "other" / "standard"
    shutil.copytree(runs / "standard", other)
    options = ["--output", str(tmp_path / "report"), "--compare-with", str(runs / "standard")]
    with pytest.raises(SystemExit, match=f"two of the name 'standard': {other} is one"):
        main(["analyze", str(runs / "DeFINE"), *options, str(other)])
    assert not (tmp_path / "report").exists()


def test_analyze_warns_of_runs_of_other_texts(runs, tmp_path, caplog):
    other = tmp_path / "other"
    shutil.copytree(runs / "DeFINE", other)
    (other / "checksums.json").unlink()  # its summary is changed on purpose
    summary = json.loads((other / "summary.json").read_text())
    (other / "summary.json").write_text(json.dumps(summary | {"name": "other", "texts": "1 2"}))
    folders = [str(folder) for folder in (runs / "standard", runs / "DeFINE", other)]
    main(["analyze", *folders, "--output", str(tmp_path / "report")])
    assert "of 2 texts, so their perplexities do not compare" in caplog.text
    assert "standard, DeFINE | other" in caplog.text


def test_compare_warns_of_runs_of_other_texts(runs, tmp_path, caplog):
    other = tmp_path / "other"
    shutil.copytree(runs / "DeFINE", other)
    (other / "checksums.json").unlink()  # its vocabulary is changed on purpose
    folders = [str(runs / name) for name in ("standard", "DeFINE")]
    figure = ["--figure", str(tmp_path / "figure.svg")]
    main(["compare", *folders, *figure])
    assert not caplog.records
    with (other / "vocabulary.txt").open("a") as file:
        file.write("zebra\n")
    main(["compare", *folders, str(other), *figure])
    assert "of 2 vocabularies, so their perplexities do not compare" in caplog.text
    assert "standard, DeFINE | DeFINE" in caplog.text
