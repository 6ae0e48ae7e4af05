import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import (
    AUTO,
    EMBEDDINGS,
    MODELS,
    VARIANTS,
    V,
    aligned,
    gpt2,
    logits,
    small_define,
    tokens,
)
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification, GPT2LMHeadModel

import define.huggingface
from define.huggingface import embedding_of, replace_embedding


@pytest.mark.parametrize(("embedding", "tie"), VARIANTS)
def test_round_trip_is_exact(kind, embedding, tie, tmp_path):
    model = replace_embedding(MODELS[kind](), EMBEDDINGS[embedding], tie=tie)
    expected = logits(model, ids := tokens())
    model.save_pretrained(tmp_path)
    loaded = AUTO[kind].from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert torch.equal(logits(aligned(loaded), ids), expected)
    assert loaded.state_dict().keys() == model.state_dict().keys()
    saved = load_file(tmp_path / "model.safetensors")
    owned = {id(p) for p in model.parameters()} | {id(b) for b in model.buffers()}
    assert len(saved) <= len(owned)  # nothing is there twice


def test_files_say_what_they_are(tmp_path):
    # Trap 4: with the plain class, the weights would be lost in silence.
    replace_embedding(gpt2(), small_define).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["model_type"] == "define"
    assert config["architectures"] == ["DefineGPT2LMHeadModel"]
    assert config["define"]["base"] == "gpt2" and config["define"]["tie"] is True
    assert config["define"]["embedding"]["class"] == "DeFINE"
    assert type(AutoConfig.from_pretrained(tmp_path)).__name__ == "DefineGPT2Config"
    found = define.huggingface.DefineGPT2LMHeadModel.from_pretrained(tmp_path)
    assert type(found) is define.huggingface.DefineGPT2LMHeadModel


def _change(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def test_missing_and_unexpected_weights_are_errors(tmp_path):
    replace_embedding(gpt2(), small_define).save_pretrained(tmp_path)
    name = "transformer.wte.map.weight"
    _change(tmp_path, lambda tensors: tensors.update(another=tensors.pop(name)))
    with pytest.raises(ValueError, match=rf"missing \['{name}'\]; unexpected \['another'\]"):
        AUTO["gpt2"].from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="wte.map.weight"):
        AutoModel.from_pretrained(tmp_path)


def test_other_architectures_over_the_same_base(tmp_path):
    model = replace_embedding(MODELS["bert"](), small_define)
    model.save_pretrained(tmp_path)
    base, info = AutoModel.from_pretrained(tmp_path, output_loading_info=True)
    assert type(base).__name__ == "DefineBertModel"
    assert {key.split(".")[0] for key in info["missing_keys"]} == {"pooler"}
    assert torch.equal(embedding_of(base).weight, embedding_of(model).weight)
    classifier = AutoModelForSequenceClassification.from_pretrained(tmp_path, num_labels=3)
    assert torch.equal(embedding_of(classifier).weight, embedding_of(model).weight)
    assert logits(classifier, tokens()).shape == (2, 3)


def test_checkpoint_of_another_configuration(tmp_path):
    replace_embedding(gpt2(), small_define).save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    wrong = json.loads(path.read_text())
    wrong["define"]["embedding"]["map"] = 8
    path.write_text(json.dumps(wrong))
    with pytest.raises((ValueError, RuntimeError), match="mismatch"):
        AUTO["gpt2"].from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="mismatched .*wte.map.weight"):
        AUTO["gpt2"].from_pretrained(tmp_path, ignore_mismatched_sizes=True)
    path.write_text(json.dumps({**config, "vocab_size": V + 1}))
    with pytest.raises(ValueError, match=rf"\({V}, 32\).*\({V + 1}, 32\)"):
        AUTO["gpt2"].from_pretrained(tmp_path)
    path.write_text(json.dumps({**config, "define": {"base": "no-such-model"}}))
    with pytest.raises(ValueError, match="no-such-model"):
        AUTO["gpt2"].from_pretrained(tmp_path)


def test_plain_checkpoints_are_loaded_plain(tmp_path):
    # Trap 9: a plain checkpoint has no weights for the embedding.
    gpt2().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="replace_embedding"):
        define.huggingface.DefineGPT2LMHeadModel.from_pretrained(tmp_path)
    model = replace_embedding(GPT2LMHeadModel.from_pretrained(tmp_path), small_define)
    assert type(model) is define.huggingface.DefineGPT2LMHeadModel


def test_low_precision(kind, tmp_path):
    model = replace_embedding(MODELS[kind](), small_define)
    expected = logits(model, ids := tokens())
    model.save_pretrained(tmp_path)
    low = AUTO[kind].from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert {p.dtype for p in embedding_of(low).parameters()} == {torch.bfloat16}
    found = logits(low, ids)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.1 * expected.std().item(), rtol=0.1)
    with torch.autocast("cpu", torch.bfloat16):
        assert logits(model, ids).dtype == torch.bfloat16 or kind == "marian"
    low.save_pretrained(tmp_path / "low")
    again = AUTO[kind].from_pretrained(tmp_path / "low")
    assert torch.equal(logits(aligned(again), ids), logits(aligned(low), ids))


def test_sharded_files(tmp_path):
    model = replace_embedding(MODELS["marian"](), small_define)
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    ids = tokens()
    loaded = AUTO["marian"].from_pretrained(tmp_path)
    assert torch.equal(logits(aligned(loaded), ids), logits(model, ids))


def test_pickle():
    model = replace_embedding(gpt2(), small_define)
    twin = pickle.loads(pickle.dumps(model))
    assert torch.equal(logits(twin, ids := tokens()), logits(model, ids))
    assert twin.get_output_embeddings().tied is embedding_of(twin).map


def test_names_that_transformers_does_not_have():
    with pytest.raises(AttributeError, match="DefineNothing"):
        define.huggingface.DefineNothing  # noqa: B018
