"""What version 0.1 wrote is still read, with the same numbers (tests/fixtures/make_0_1.py)."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from define.__main__ import main
from define.data import Text

FIXTURES = Path(__file__).parent / "fixtures"
sys.path.insert(0, str(FIXTURES))

from old_modules import EMBEDDINGS, HEADS  # noqa: E402

OLD = FIXTURES / "0.1"
RUNS = ("define", "awd-lstm", "lstm", "transformer-xl", "translation")
LANGUAGE_MODELS = RUNS[:-1]
NUMBERS = ("valid_perplexity", "test_perplexity", "unit", "context", "input_output")


@pytest.fixture
def old(tmp_path, monkeypatch, cache):
    """A copy of the old files, as the present folder: paths in them are relative."""
    shutil.copytree(OLD, tmp_path / "0.1")
    monkeypatch.chdir(tmp_path / "0.1")
    return tmp_path / "0.1"


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text("utf-8"))


@pytest.mark.parametrize("name", RUNS)
def test_a_finished_run_is_measured(old, name, capsys):
    expected = summary_of(old / "runs-finished" / name)
    for split in ("valid", "test"):
        main(["evaluate", f"runs-finished/{name}", "--split", split])
        assert f"perplexity {expected[f'{split}_perplexity']:.2f}" in capsys.readouterr().out


def flattened(settings, name=""):
    """Arguments of a command line from the tree of a configuration."""
    for key, value in settings.items():
        if key == "init_args":
            yield from flattened(value, name)
        elif key == "class_path":
            yield f"--{name}", value
        elif isinstance(value, dict):
            yield from flattened(value, f"{name}.{key}".strip("."))
        else:
            yield f"--{name}.{key}".replace("--.", "--"), json.dumps(value).strip('"')


@pytest.mark.parametrize("name", RUNS)
def test_a_stopped_run_goes_on_to_the_same_numbers(old, name):
    run, whole = old / "runs-stopped" / name, old / "runs-finished" / name
    first, text = (run / "config.yaml").read_text("utf-8").split("\n", 1)
    assert not (run / "summary.json").exists()
    options = [word for pair in flattened(yaml.safe_load(text)) for word in pair]
    main(["train", first.removeprefix("# recipe: "), *options, "--run", str(run)])
    found, expected = summary_of(run), summary_of(whole)
    assert found["tokens"] == expected["tokens"]
    assert [t for t, _ in found["history"]] == [t for t, _ in expected["history"]]
    ours, theirs = ([p for _, p in s["history"]] for s in (found, expected))
    assert ours == pytest.approx(theirs, rel=1e-4)
    for key in NUMBERS:
        assert found[key] == pytest.approx(expected[key], rel=1e-4)
    weights = load_file(whole / "model.safetensors")
    assert load_file(run / "model.safetensors").keys() == weights.keys()


@pytest.mark.parametrize("name", LANGUAGE_MODELS)
def test_an_old_run_generates(old, name, capsys):
    main(["generate", f"runs-finished/{name}", "--prompt", "w00 w01", "--length", "5"])
    assert capsys.readouterr().out.startswith("w00 w01")


def test_old_runs_are_compared_and_analyzed(old, capsys):
    main(["compare", *(f"runs-finished/{name}" for name in LANGUAGE_MODELS)])
    table = capsys.readouterr().out
    for name in LANGUAGE_MODELS:
        perplexity = summary_of(old / "runs-finished" / name)["test_perplexity"]
        assert f"{perplexity:.4g} |" in table
    main(["analyze", "runs-finished/define", "runs-finished/lstm", "--output", "report"])
    assert Path("report/report.md").is_file()


def test_ids_and_vocabulary_stay(old):
    corpus = Text(old / "text").open()
    assert (
        list(corpus.vocabulary.words) == Path("ids/vocabulary.txt").read_text("utf-8").splitlines()
    )
    for split in ("train", "valid", "test"):
        ids = np.fromfile(f"ids/{split}.int32", np.int32)
        assert np.array_equal(corpus.split(split).numpy(), ids)


def test_a_tokenizer_of_an_old_run_splits_as_before(old):
    from define.data import Subwords

    tokenizer = Subwords.read(old / "runs-finished/translation/tokenizer.json")
    lines = Path("pairs/test.en").read_text("utf-8").splitlines()
    ids = [" ".join(map(str, row)) for row in tokenizer.encode(lines)]
    assert ids == Path("ids/pairs-test-en.txt").read_text("utf-8").splitlines()


@pytest.mark.parametrize("name", [*EMBEDDINGS, *HEADS])
def test_state_of_a_module(name):
    saved = load_file(OLD / "modules.safetensors")
    prefix = f"{name}/state/"
    state = {key.removeprefix(prefix): t for key, t in saved.items() if key.startswith(prefix)}
    module = (EMBEDDINGS | HEADS)[name]().eval()
    module.load_state_dict(state)
    with torch.no_grad():
        if name in EMBEDDINGS:
            found = module(saved["ids"])
        else:
            found = module["head"].log_prob(saved["hidden"])
            loss = module["head"](saved["hidden"], saved["ids"].flatten())
            torch.testing.assert_close(loss, saved[f"{name}/loss"], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found, saved[f"{name}/output"], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("name", "auto"),
    [
        ("gpt2", "AutoModelForCausalLM"),
        ("gpt2-untied", "AutoModelForCausalLM"),
        ("gpt2-adaptive-map", "AutoModelForCausalLM"),
        ("bert", "AutoModelForMaskedLM"),
        ("marian", "AutoModelForSeq2SeqLM"),
        ("t5", "AutoModelForSeq2SeqLM"),
    ],
)
def test_a_model_of_transformers(name, auto):
    import transformers

    import define.huggingface  # noqa: F401

    expected = load_file(OLD / "huggingface" / "expected.safetensors")
    model = getattr(transformers, auto).from_pretrained(OLD / "huggingface" / name).eval()
    ids = expected[f"{name}/ids"]
    more = {"decoder_input_ids": ids} if model.config.is_encoder_decoder else {}
    with torch.no_grad():
        logits = model(ids, **more).logits
    torch.testing.assert_close(logits, expected[f"{name}/logits"], atol=1e-5, rtol=1e-5)
