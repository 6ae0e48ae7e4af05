"""Runs and checkpoints for those who have other programs."""

import runpy
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
        *(str(out / f"embedding.{ending}") for ending in ("npy", "safetensors", "txt")),
        *(str(out / name) for name in ("model.py", "model.safetensors", "vocabulary.txt")),
    ]
    assert torch.equal(load_file(out / "embedding.safetensors")["weight"], table)
    assert np.array_equal(np.load(out / "embedding.npy"), table.numpy())
    first, *lines = (out / "embedding.txt").read_text("utf-8").splitlines()
    assert first == f"{len(run.vocabulary)} {table.shape[1]}"
    words, rows = zip(*((word, row) for word, *row in map(str.split, lines)), strict=True)
    assert words == run.vocabulary.words
    np.testing.assert_allclose(np.array(rows, float), table.numpy(), rtol=1e-5, atol=1e-6)
    assert "exists already" in failure(capsys, "export", trained[1].path, "--output", out)


TRANSFORMER_XL = (
    *("--embedding", "AdaptiveEmbedding", "--embedding.cutoffs", "[10,30]"),
    *("--embedding.div_value", "2", "--cutoffs", "[10,30]", "--embedding_dim", "8"),
    *("--num_layers", "2", "--num_heads", "2", "--head_dim", "4", "--inner_dim", "8"),
    *("--memory_length", "3", "--training.epochs", "1", "--training.batch_size", "4"),
    *("--training.length", "5", "--training.accelerator", "cpu"),
)


@pytest.mark.parametrize("kind", ["lstm", "transformer-xl"])
def test_a_whole_language_model(kind, trained, tmp_path, unchecked):
    """Each next token has the probability that it had, in torch alone and in onnxruntime."""
    onnxruntime = pytest.importorskip("onnxruntime")
    text, path = trained[0], trained[1].path
    if kind == "transformer-xl":
        path = tmp_path / "run"
        names = ("--data.path", str(text), "--run", str(path))
        main(["train", "wikitext-2-transformer-xl", *names, *TRANSFORMER_XL])
    run, out = define.load(path), tmp_path / "out"
    files = run.export(out, onnx=True)
    assert {"model.py", "model.onnx", "embedding.onnx"} <= {file.name for file in files}
    assert "define" not in (out / "model.py").read_text()
    net = runpy.run_path(str(out / "model.py"))["load"](out)
    session = onnxruntime.InferenceSession(out / "model.onnx")
    names = [place.name for place in session.get_inputs()][1:]
    ours, state = [tensor.numpy() for tensor in net.start(3)], net.start(3)
    assert [tensor.shape for tensor in ours] == [tuple(tensor.shape) for tensor in state]
    before = None
    for tokens in torch.randint(len(run.vocabulary), (6, 3)):
        hidden, before = run.model.hidden(tokens[:, None], before)
        wanted = run.model.head.log_prob(hidden[:, 0])
        found, *state = net(tokens, *state)
        torch.testing.assert_close(found, wanted)
        inputs = {"tokens": tokens.numpy(), **dict(zip(names, ours, strict=True))}
        found, *ours = session.run(None, inputs)
        torch.testing.assert_close(torch.from_numpy(found), wanted, atol=1e-5, rtol=1e-5)


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


def test_a_failed_export_leaves_nothing(trained, tmp_path, capsys, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError("no space is left")

    monkeypatch.setattr(np, "save", full)
    said = failure(capsys, "export", trained[1].path, "--output", tmp_path / "out")
    assert "no space is left" in said
    assert not list(tmp_path.glob("out*"))
