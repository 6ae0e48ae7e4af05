"""Translation from the command line: train, evaluate, translate, and what goes wrong."""

import io
import json
import math
import sys

import pytest
import sacrebleu
import torch
from tiny import arguments as language_arguments
from tiny import cache_in, write_text
from tiny_pairs import SIZE, SOURCE, TARGET, arguments, experiment, write_pairs

from define import load
from define.__main__ import main
from define.data import Subwords
from define.measures import RunSummary
from define.training import Run
from define.translation import bleu


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    root = tmp_path_factory.mktemp("translation")
    folder = write_pairs(root / "pairs", train=150)
    with cache_in(root / "cache"):
        more = ("--embedding", "torch.nn.Embedding", "--training.learning_rate", "0.01")
        schedule = ("--training.schedule.warmup_steps", "20", "--dropout", "0")
        main([*arguments(folder, root / "run", *more, *schedule)])
    folder.rename(root / "moved")  # a run needs nothing but its folder
    return root / "moved", Run(root / "run")


def translate(monkeypatch, capsys, run, text, *more):
    capsys.readouterr()
    stdin = io.TextIOWrapper(io.BytesIO(text.encode() if isinstance(text, str) else text))
    stdout = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdin", stdin)
    monkeypatch.setattr(sys, "stdout", stdout)
    main(["translate", str(run.path), *more])
    stdout.seek(0)
    return stdout.read()


def test_bleu_is_that_of_sacrebleu():
    ours = ["the cat sat on the mat today", "a dog", ""]
    theirs = ["the cat sat on a mat today", "a dog", "a bird"]
    score, signature = bleu(ours, theirs)
    assert score == pytest.approx(sacrebleu.corpus_bleu(ours, [theirs]).score)
    assert 0 < score < 100 and bleu(theirs, theirs)[0] == pytest.approx(100)
    assert "tok:13a" in signature and sacrebleu.__version__ in signature
    with pytest.raises(ValueError, match="=3 must equal .*=2"):
        bleu(ours, theirs[:2])


@pytest.mark.parametrize("language", ["zh", "zh-CN"])
def test_bleu_of_chinese_cuts_between_characters(folder, language):
    ours, theirs = ["我很喜欢这只小猫。"], ["我非常喜欢这只小猫。"]
    expected = sacrebleu.corpus_bleu(ours, [theirs], tokenize="zh").score
    assert bleu(ours, theirs, language)[0] == pytest.approx(expected) and expected > 50
    for split in ("train", "valid", "test"):
        (folder / f"{split}.de").rename(folder / f"{split}.{language}")
    built = experiment(folder, torch.nn.Embedding, target=language)
    assert "tok:zh" in built.evaluate(num_beams=1).signature


def test_a_run_has_scores_and_ten_translations(trained, capsys):
    folder, run = trained
    summary = RunSummary.from_json(run.summary)
    raw = json.loads(run.summary.read_text())
    found = (run.path / "test.translations").read_text().splitlines()
    references = (folder / "test.de").read_text().splitlines()
    expected = sacrebleu.corpus_bleu(found, [references]).score
    assert raw["test_bleu"] == pytest.approx(expected)
    assert raw["bleu_signature"].startswith("beams:2|nrefs:1")
    first, last = (perplexity for _, perplexity in summary.history)
    assert summary.valid_perplexity == last < 0.8 * first < 0.8 * SIZE  # it learned
    report = (run.path / "translations.md").read_text()
    for name in ("source", "reference", "ours"):
        assert report.count(f"- {name}: ") == 10
    assert len((run.path / "test.translations").read_text().splitlines()) == 15
    assert Subwords.read(run.path / "tokenizer.json").vocabulary.words[1] == "<eos>"
    main(["compare", str(run.path), "--figure", str(run.path / "figure.png")])
    out = capsys.readouterr().out
    assert f"{raw['test_bleu']:.2f}" in out and "test BLEU" in out


def test_a_run_is_analyzed(trained, tmp_path):
    folder, run = trained
    main(["analyze", str(run.path), "--data.path", str(folder), "--output", str(tmp_path / "a")])
    (numbers,) = json.loads((tmp_path / "a" / "numbers.json").read_text("utf-8"))
    raw = json.loads(run.summary.read_text())
    bands = numbers["bands"]
    nll, tokens = (sum(band[key] for band in bands) for key in ("nll", "tokens"))
    assert math.exp(nll / tokens) == pytest.approx(raw["test_perplexity"])
    assert numbers["summary"]["test_bleu"] == raw["test_bleu"]
    ours = (run.path / "test.translations").read_text("utf-8").splitlines()
    assert [shown["ours"] for shown in numbers["translations"]] == ours[:10]
    text = (tmp_path / "a" / "report.md").read_text("utf-8")
    assert "## Translations" in text and "test BLEU" in text
    assert (tmp_path / "a" / "bleu.svg").is_file()


def test_tables_of_both_languages_are_analyzed(folder, tmp_path):
    run = tmp_path / "run"
    options = ("--embedding", "torch.nn.Embedding", "--share", "false", "--training.epochs", "1")
    main(arguments(folder, run, *options))
    main(["analyze", str(run), "--data.path", str(folder), "--output", str(tmp_path / "a")])
    numbers = json.loads((tmp_path / "a" / "numbers.json").read_text("utf-8"))
    assert [found["name"] for found in numbers] == ["run (en)", "run (de)"]
    assert [bool(found["bands"]) for found in numbers] == [False, True]
    assert [len(found["translations"]) for found in numbers] == [10, 0]
    first, second = (found["map"]["words"] for found in numbers)  # the most frequent first
    assert first != second and set(first) == set(second)


def test_a_model_that_diverged_is_measured(trained):
    experiment = load(trained[1].path, data_path=trained[0]).experiment
    with torch.no_grad():
        for parameter in experiment.model.parameters():
            parameter.mul_(1e4)
    assert experiment.valid_perplexity() == math.inf


def test_evaluate_gives_what_the_summary_says(trained, capsys):
    folder, run = trained
    raw = json.loads(run.summary.read_text())
    capsys.readouterr()
    main(["evaluate", str(run.path), "--data.path", str(folder)])
    out = capsys.readouterr().out
    assert f"perplexity {raw['test_perplexity']:.2f}, BLEU {raw['test_bleu']:.2f}" in out
    main(["evaluate", str(run.path), "--data.path", str(folder), "--beams", "1"])
    assert "(beams:1|nrefs:1|" in capsys.readouterr().out


def test_translate_keeps_lines_and_their_order(trained, monkeypatch, capsys):
    folder, run = trained
    source = (folder / "test.en").read_text()
    expected = (run.path / "test.translations").read_text()
    assert translate(monkeypatch, capsys, run, source) == expected  # the recipe's beams
    one = translate(monkeypatch, capsys, run, source, "--beams", "2", "--batch_size", "1")
    assert one == expected
    mixed = translate(monkeypatch, capsys, run, "\nba be.\n   \nfi.\n\n", "--beams", "1")
    lines = mixed.split("\n")
    assert len(lines) == 6 and lines[0] == lines[2] == lines[4] == "" and lines[1] and lines[3]
    assert translate(monkeypatch, capsys, run, "") == ""


def test_a_line_that_is_too_long_is_cut_with_a_warning(trained, monkeypatch, capsys, caplog):
    _, run = trained
    found = translate(monkeypatch, capsys, run, "ba.\n" + "ba " * 40 + "\nbe.\n", "--beams", "1")
    assert len(found.splitlines()) == 3
    assert "Line 2 has 40 tokens: only the first 19 are translated." in caplog.text


def test_what_cannot_be_translated_is_said(trained, monkeypatch, capsys, tmp_path):
    _, run = trained
    with pytest.raises(SystemExit) as exit:
        translate(monkeypatch, capsys, run, b"ba.\nb\xff\n")
    assert "Line 2 of the input is not UTF-8" in str(exit.value.code)
    with pytest.raises(SystemExit) as exit:
        translate(monkeypatch, capsys, run, "ba.\n", "--beams", "0")
    assert "beams=0" in str(exit.value.code)
    with pytest.raises(SystemExit) as exit:
        main(["generate", str(run.path)])
    assert "translat" in str(exit.value.code)
    text, language = write_text(tmp_path / "text", train=40), Run(tmp_path / "language")
    main(language_arguments(text, language.path))
    with pytest.raises(SystemExit) as exit:
        translate(monkeypatch, capsys, language, "w01\n")
    assert "is a run of a language model" in str(exit.value.code)


def test_another_tokenizer_needs_another_folder(folder, tmp_path):
    run = tmp_path / "run"
    main(arguments(folder, run, "--embedding", "torch.nn.Embedding", "--training.epochs", "1"))
    (run / "summary.json").unlink()
    for file, words in (("train.en", SOURCE), ("train.de", TARGET)):
        with (folder / file).open("a") as opened:
            opened.write("".join(f"x{word}.\n" for word in words))
    with pytest.raises(SystemExit) as exit:
        main(arguments(folder, run, "--embedding", "torch.nn.Embedding", "--training.epochs", "1"))
    assert "is another tokenizer than that of" in str(exit.value.code)
