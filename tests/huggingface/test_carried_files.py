"""What stands in a checkpoint's folder beside the weights."""

import json
import os
import subprocess
import sys

import pytest
import torch
from families import auto_class, tiny_model
from safetensors.torch import load_file, save_file
from tiny_models import gpt2, small_define

from define.__main__ import main
from define.huggingface import carry_files, replace_embedding, write_readme
from define.huggingface.twins import output, tiny_batch

NO_IMPORT = """
import sys, torch, transformers
from safetensors.torch import load_file, save_file

folder, auto = sys.argv[1], getattr(transformers, sys.argv[2])
try:
    auto.from_pretrained(folder)
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise SystemExit("loaded without leave")
model = auto.from_pretrained(folder, trust_remote_code=True).eval()
with torch.no_grad():
    found = model(**load_file(folder + "/batch")).logits
save_file({"found": found}, folder + "/found")
"""


@pytest.mark.parametrize("kind", ["gpt2", "bert", "marian", "llava", "encoder-decoder"])
def test_loading_without_importing_this_package(kind, tmp_path):
    model = replace_embedding(tiny_model(kind), small_define)
    batch = tiny_batch(model)
    expected = output(model, batch)
    model.save_pretrained(tmp_path)
    save_file({k: v for k, v in batch.items() if k != "use_cache"}, tmp_path / "batch")
    done = subprocess.run(
        [sys.executable, "-c", NO_IMPORT, str(tmp_path), auto_class(kind)[0].__name__],
        capture_output=True,
        text=True,
        check=False,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "cache")},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    torch.testing.assert_close(load_file(tmp_path / "found")["found"], expected)


def test_the_readme_says_how_to_load(tmp_path):
    model = replace_embedding(gpt2(), small_define)
    model.save_pretrained(tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert "import define.huggingface" in text and "trust_remote_code=True" in text
    assert "DeFINE(\n  100, 32" in text and "# GPT2LMHeadModel" in text
    write_readme(tmp_path / "a", model, ["relative error of the table: 0.1234"])
    text = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert "What was done" in text and "0.1234" in text
    model.save_pretrained(tmp_path / "a")  # a README that is there stays
    assert (tmp_path / "a" / "README.md").read_text("utf-8") == text


def test_all_but_the_model_is_carried(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    kept = (
        "modules.json",
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "sentence_bert_config.json",
        "tokenizer.json",
        "preprocessor_config.json",
        "chat_template.jinja",
        "additional_chat_templates/tool.jinja",
    )
    left = (
        "config.json",
        "generation_config.json",
        "README.md",
        "model.safetensors",
        "model.safetensors.index.json",
        "pytorch_model.bin",
        "onnx/model.onnx",
        "openvino/openvino_model.xml",
        "compression.svg",
        "checkpoint-500/model.safetensors",  # of a training
        "checkpoint-500/more/state.json",
        "smaller.partial/tokenizer.json",  # what is written right now
    )
    for name in (*kept, *left):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    for name in ("checkpoint-500", "smaller.partial"):
        (source / name / "config.json").write_text('{"model_type": "gpt2"}')
    target.mkdir()
    assert set(carry_files(source, target)) == set(kept)
    found = {str(p.relative_to(target)) for p in target.rglob("*") if p.is_file()}
    assert found == set(kept)


@pytest.mark.parametrize("tie", [None, "embedding"])
def test_export_says_what_became_of_the_head(tie, tmp_path, capsys):
    model = replace_embedding(gpt2(), small_define, tie=tie)
    model.save_pretrained(tmp_path / "small")
    (tmp_path / "small" / "tokenizer_config.json").write_text("{}")
    main(["export", str(tmp_path / "small"), "--output", str(tmp_path / "plain")])
    printed = capsys.readouterr().out
    assert ("a table of its own" in printed) == (tie is None)
    config = json.loads((tmp_path / "plain" / "config.json").read_text("utf-8"))
    assert config["model_type"] == "gpt2" and "define" not in config and "auto_map" not in config
    assert (tmp_path / "plain" / "tokenizer_config.json").exists()
