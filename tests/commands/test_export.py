"""Runs and checkpoints for those who have other programs."""

import shutil

import numpy as np
import pytest
import torch
from messages import failure
from safetensors.torch import load_file

import define
from define.__main__ import main


def test_vectors_of_a_run(trained, tmp_path, capsys):
    main(["export", str(trained[1].path), "--output", str(tmp_path / "out")])
    run = define.load(trained[1].path)
    table = run.model.embedding.weight.detach()
    out = tmp_path / "out"
    assert capsys.readouterr().out.split() == [
        str(out / f"embedding.{ending}") for ending in ("safetensors", "npy", "txt")
    ] + [str(out / "vocabulary.txt")]
    assert torch.equal(load_file(out / "embedding.safetensors")["weight"], table)
    assert np.array_equal(np.load(out / "embedding.npy"), table.numpy())
    first, *lines = (out / "embedding.txt").read_text("utf-8").splitlines()
    assert first == f"{len(run.vocabulary)} {table.shape[1]}"
    words, rows = zip(*((word, row) for word, *row in map(str.split, lines)), strict=True)
    assert words == run.vocabulary.words
    np.testing.assert_allclose(np.array(rows, float), table.numpy(), rtol=1e-5, atol=1e-6)
    assert "exists already" in failure(capsys, "export", trained[1].path, "--output", out)


def test_a_plain_checkpoint(tmp_path, request, capsys):
    from transformers import AutoModelForCausalLM

    old = request.config.rootpath / "tests" / "fixtures" / "0.1" / "huggingface"
    shutil.copytree(old / "gpt2", tmp_path / "model")
    (tmp_path / "model" / "notes.txt").write_text("kept")
    main(["export", str(tmp_path / "model"), "--output", str(tmp_path / "plain")])
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "plain").eval()
    assert type(plain).__name__ == "GPT2LMHeadModel"
    assert (tmp_path / "plain" / "notes.txt").read_text() == "kept"
    expected = load_file(old / "expected.safetensors")
    with torch.no_grad():
        logits = plain(expected["gpt2/ids"]).logits
    torch.testing.assert_close(logits, expected["gpt2/logits"], atol=1e-5, rtol=1e-5)
    message = failure(capsys, "export", tmp_path / "plain", "--output", tmp_path / "again")
    assert "plain already" in message


@pytest.mark.parametrize("what", ["nowhere", "empty"])
def test_what_is_neither(what, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    message = failure(capsys, "export", tmp_path / what, "--output", tmp_path / "out")
    assert "no trained run" in message
    assert not (tmp_path / "out").exists()
