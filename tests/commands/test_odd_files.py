"""Odd texts go through every command: what it says is a result or one line, never a traceback."""

import io
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_pairs
from messages import failure
from odd import LINES, MARK, write_pairs, write_texts
from tiny import arguments, cache_in

import define
from define.__main__ import main
from define.commands import COMMANDS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Texts, and runs on them: of words, of subwords, and of pairs."""
    root = tmp_path_factory.mktemp("odd")
    text, pairs = write_texts(root / "text"), write_pairs(root / "pairs")
    subwords = ("--data.tokenizer", "bpe", "--data.size", "150")
    with cache_in(root / "cache"):
        main(arguments(text, root / "words"))
        main(arguments(text, root / "subwords", *subwords, "--tie", "embedding"))
        main(tiny_pairs.arguments(pairs, root / "translation", "--data.vocabulary_size", "120"))
    return root


def said(capsys, *command):
    capsys.readouterr()
    main([str(part) for part in command])
    return capsys.readouterr().out


KINDS = ("words", "subwords")


@pytest.mark.parametrize("kind", KINDS)
def test_language_models(root, kind, tmp_path, capsys):
    run = root / kind
    for split in ("train", "valid", "test"):
        assert f"{split} perplexity" in said(capsys, "evaluate", run, "--split", split)
    prompt = "the\u00a0cat " + " ".join(LINES[1:4])
    assert said(capsys, "generate", run, "--prompt", prompt, "--length", 5).startswith(prompt)
    out = tmp_path / "exported"
    said(capsys, "export", run, "--output", out)
    table = np.load(out / "embedding.npy")
    assert len(table) == len(define.load(run).vocabulary)
    rows = (out / "embedding.txt").read_text("utf-8").split("\n")[1:-1]
    assert all(len(row.split()) == 1 + table.shape[1] for row in rows)
    said(capsys, "compress", out / "embedding.txt", "--share", 0.9, "--output", tmp_path / "small")
    page = Path(said(capsys, "analyze", run, "--output", tmp_path / "report").strip())
    assert "<script>alert(1)" not in page.read_text("utf-8")


def test_subwords_leave_nothing_out_but_spaces(root):
    corpus = define.load(root / "subwords").experiment.corpus
    for line in LINES:
        words = " ".join(line.split())
        if "\u0301" not in line and "\x00" not in line and "\u200b" not in line:
            assert corpus.decode(corpus.encode(line)) == words


def test_transformers_reads_the_tokenizer(root):
    transformers = pytest.importorskip("transformers")
    corpus = define.load(root / "subwords").experiment.corpus
    file = str(root / "subwords" / "tokenizer.json")
    theirs = transformers.PreTrainedTokenizerFast(tokenizer_file=file, split_special_tokens=True)
    for line in LINES:
        assert theirs(line, add_special_tokens=False)["input_ids"] == corpus.encode(line)


def test_translation(root, tmp_path, capsysbinary, monkeypatch):
    run = root / "translation"
    given = (MARK + "\r\n".join(LINES) + "\r\n").encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given)))
    main(["translate", str(run), "--num_beams", "1"])
    assert capsysbinary.readouterr().out.count(b"\n") == len(LINES)
    main(["evaluate", str(run), "--num_beams", "1"])
    main(["analyze", str(run), "--output", str(tmp_path / "report")])
    main(["export", str(run), "--output", str(tmp_path / "exported")])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a\n\xff\n")))
    with pytest.raises(SystemExit, match="Line 2 of the input is not UTF-8"):
        main(["translate", str(run)])


def test_all_the_others(root, tmp_path, capsys):
    listed = said(capsys, "runs", root)
    assert all(kind in listed for kind in (*KINDS, "translation"))
    figure = ("--figure", tmp_path / "figure.svg")
    assert "subwords" in said(capsys, "compare", root / "words", root / "subwords", *figure)
    said(capsys, "cutoffs", "--data.path", root / "text", "--width", 8, "--bands", 2)
    sizes = ("--num_embeddings", 100, "--embedding_dim", 8)
    said(capsys, "embeddings", *sizes)
    said(capsys, "suggest", *sizes, "--tokens", 1000)
    said(capsys, "parameters")


def test_texts_that_nothing_can_be_learned_from(root, tmp_path, capsys):
    for content, wanted in (
        (b"", "train.txt is empty"),
        (MARK.encode() + b"\r\n \t\r\n", "train.txt is empty"),
        (b"a b\n\xff\xfe c\n", "train.txt, line 2: not UTF-8"),
        ("a b\n".encode("utf-16"), "train.txt, line 1: not UTF-8"),
        (b"a b\n", "batch_size=4"),
    ):
        text = tmp_path / "text"
        shutil.rmtree(text, ignore_errors=True)
        shutil.copytree(root / "text", text)
        (text / "train.txt").write_bytes(content)  # is taken before the compressed one
        assert wanted in failure(capsys, *arguments(text, tmp_path / "run"))
        if content != b"a b\n":
            wide = ("--width", 8)
            assert wanted in failure(capsys, "cutoffs", "--data.path", text, *wide)


def test_no_command_was_forgotten():
    """A new one is tried here too."""
    text = Path(__file__).read_text("utf-8")
    assert [name for name in COMMANDS if f'"{name}"' not in text] == []
