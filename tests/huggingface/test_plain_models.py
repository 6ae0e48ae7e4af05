import os
import subprocess
import sysconfig
import venv
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import AUTO, EMBEDDINGS, MODELS, VARIANTS, gpt2, logits, small_define, tokens

from define.huggingface import export, replace_embedding

ELSEWHERE = """
import sys
from importlib.util import find_spec

assert find_spec("define") is None, find_spec("define")
import torch, transformers
from pathlib import Path
from safetensors.torch import load_file, save_file

folder = Path(sys.argv[1])
ids = load_file(folder / "ids")["ids"]
try:
    transformers.AutoModel.from_pretrained(folder / "saved")
except ValueError as error:
    assert "trust_remote_code=True" in str(error), error
else:
    raise SystemExit("A checkpoint with our embedding was loaded as something else.")
try:
    transformers.AutoModel.from_pretrained(folder / "saved", trust_remote_code=True)
except ImportError as error:
    assert "pip install 'define-embeddings[huggingface]'" in str(error), error
found = {}
for line in (folder / "list").read_text().splitlines():
    name, auto = line.split()
    model = getattr(transformers, auto).from_pretrained(folder / name)
    assert type(model).__module__.startswith("transformers."), type(model)
    options = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        found[name] = model(ids, **options).logits
save_file(found, folder / "found")
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory):
    """The Python of a virtual environment that has all but this package."""
    folder = tmp_path_factory.mktemp("elsewhere")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    paths = {"base": str(folder), "platbase": str(folder)}
    # A folder that a .pth file names has its own .pth files ignored, and by one of them this
    # package is installed.
    packages = Path(sysconfig.get_path("purelib", vars=paths))
    (packages / "packages.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return python


@pytest.mark.parametrize(("embedding", "tie"), VARIANTS)
def test_same_numbers(kind, embedding, tie):
    model = replace_embedding(MODELS[kind](), EMBEDDINGS[embedding], tie=tie)
    expected = logits(model, ids := tokens())
    plain = export(model)
    assert type(plain) is type(MODELS[kind]())
    assert not plain.training and not hasattr(plain.config, "define")
    torch.testing.assert_close(logits(plain, ids), expected, atol=1e-4, rtol=1e-4)
    # A head of rank n cannot be the table; a table tied as it is can.
    same = tie is None and embedding in ("plain", "adaptive")
    assert plain.config.tie_word_embeddings == same
    ends = plain.get_input_embeddings().weight, plain.get_output_embeddings().weight
    assert (ends[0] is ends[1]) == same
    assert not {p.data_ptr() for p in plain.parameters()} & {
        p.data_ptr() for p in model.parameters()
    }


def test_exported_checkpoints_need_nothing_of_this_package(tmp_path, elsewhere):
    ids = tokens()
    save_file({"ids": ids}, tmp_path / "ids")
    replace_embedding(gpt2(), small_define).save_pretrained(tmp_path / "saved")
    expected, lines = {}, []
    for kind, make in MODELS.items():
        model = replace_embedding(make(), small_define)
        plain = export(model)
        plain.save_pretrained(tmp_path / kind)
        expected[kind] = logits(plain, ids).detach()
        torch.testing.assert_close(expected[kind], logits(model, ids), atol=1e-4, rtol=1e-4)
        lines.append(f"{kind} {AUTO[kind].__name__}\n")
    (tmp_path / "list").write_text("".join(lines))
    result = subprocess.run(
        [elsewhere, "-E", "-c", ELSEWHERE, str(tmp_path)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "HF_MODULES_CACHE": str(tmp_path / "cache")},
    )
    assert result.returncode == 0, result.stderr
    found = load_file(tmp_path / "found")
    for kind in MODELS:
        torch.testing.assert_close(found[kind], expected[kind], atol=1e-5, rtol=1e-5)


def test_exported_models_generate_the_same():
    model = replace_embedding(gpt2(), small_define).eval()
    model.generation_config.max_new_tokens = 5
    ids = tokens()
    options = {"attention_mask": torch.ones_like(ids), "do_sample": False}
    assert torch.equal(export(model).generate(ids, **options), model.generate(ids, **options))


def test_exported_models_can_be_replaced_again():
    model = replace_embedding(export(replace_embedding(gpt2(), small_define)), small_define)
    assert not model.config.define["tie"]


def test_low_precision_and_training_mode():
    model = replace_embedding(gpt2().to(torch.bfloat16), small_define).train()
    plain = export(model)
    assert plain.training and {p.dtype for p in plain.parameters()} == {torch.bfloat16}


def test_only_models_with_our_embedding():
    with pytest.raises(TypeError, match="GPT2LMHeadModel has no embedding"):
        export(gpt2())
