"""Tools that put something between a model and its weights: the numbers must stay the same."""

import copy
import os
import pickle
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import pytest
import torch
from families import tiny_model
from tiny_models import AUTO, EMBEDDINGS, MODELS, V, logits, tokens
from torch import nn

from define import DeFINE, HashEmbedding
from define.huggingface import carry_files, embedding_of, export, replace_embedding

accelerate = pytest.importorskip("accelerate")
small = partial(DeFINE, map=16, expand_dim=32, depth=2, max_groups=2)
# Tied to a stored Map, to a Map in bands, to the rows that the unit computes.
WAYS = {
    "map": (small, None),
    "bands": (EMBEDDINGS["adaptive"], None),
    "map in bands": (
        lambda v, m: small(v, m, map=EMBEDDINGS["adaptive"](v, 16, map_dim=8)),
        None,
    ),
    "rows": (small, "embedding"),
    "hashed": (partial(HashEmbedding, num_buckets=30), "embedding"),
    "plain": (nn.Embedding, None),
}


CASES = [
    ("gpt2", "map"),
    ("marian", "map"),
    ("gemma", "bands"),
    ("marian", "map in bands"),
    ("bert", "rows"),
    ("gemma", "rows"),
    ("gpt2", "hashed"),
    ("bert", "plain"),
]


def made(kind, way):
    factory, tie = WAYS[way]
    return replace_embedding(MODELS[kind](), factory, tie=tie).eval()


@pytest.fixture(params=CASES, ids="-".join)
def model(request):
    return made(*request.param)


def test_offload_to_cpu(model):
    expected = logits(model, ids := tokens())
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    assert all(p.is_meta for p in embedding_of(model).parameters())
    torch.testing.assert_close(logits(model, ids), expected)
    assert all(p.is_meta for p in embedding_of(model).parameters())


def test_offload_of_a_model_that_reads_its_head(tmp_path):
    model = replace_embedding(tiny_model("mamba"), small).eval()
    expected = logits(model, ids := tokens())
    accelerate.cpu_offload(model, execution_device=torch.device("cpu"))
    torch.testing.assert_close(logits(model, ids), expected)


def test_offload_to_disk(model, tmp_path):
    expected = logits(model, ids := tokens())
    accelerate.disk_offload(model, tmp_path, execution_device=torch.device("cpu"))
    torch.testing.assert_close(logits(model, ids), expected)


def test_device_map(model, tmp_path):
    expected = logits(model, ids := tokens())
    kind = next(k for k in AUTO if k in type(model).__name__.lower())
    model.save_pretrained(tmp_path / "model")
    # Marian's positions are not in its file: transformers cannot offload it, plain or not.
    for device in ("cpu", "disk") if kind != "marian" else ("cpu",):
        loaded = AUTO[kind].from_pretrained(
            tmp_path / "model", device_map={"": device}, offload_folder=tmp_path / "offload"
        )
        torch.testing.assert_close(logits(loaded, ids), expected)


def test_replicas_of_data_parallel_are_whole(model):
    expected = logits(model, ids := tokens())
    # As nn.DataParallel makes them: modules that are one stay one, and tensors are others.
    replica = _replica(model, {id(p): p.detach() * 1 for p in model.parameters()})
    torch.testing.assert_close(logits(replica, ids), expected)
    changed = _replica(model, {id(p): p.detach() * 1.5 for p in model.parameters()})
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    torch.testing.assert_close(logits(changed, ids), logits(twin, ids))


def _replica(model, tensors):
    modules = {id(part): part._replicate_for_data_parallel() for part in model.modules()}
    for part in model.modules():
        replica = modules[id(part)]
        for name, child in part._modules.items():
            setattr(replica, name, None if child is None else modules[id(child)])
        for name, parameter in part._parameters.items():
            setattr(replica, name, None if parameter is None else tensors[id(parameter)])
    return modules[id(model)]


def test_deepcopy_and_pickle(model):
    expected = logits(model, ids := tokens())
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(logits(twin, ids), expected)
        parameters = list(embedding_of(twin).parameters())
        with torch.no_grad():
            parameters[0].mul_(3)
        assert not torch.equal(logits(twin, ids), expected)
        assert torch.equal(logits(model, ids), expected)


def _lora(model, targets):
    peft = pytest.importorskip("peft")
    config = peft.LoraConfig(
        r=4, target_modules=targets, init_lora_weights=False, fan_in_fan_out="c_attn" in targets
    )
    return peft.get_peft_model(model, config).eval()


# PEFT calls what transformers has given another name.
renamed = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


@renamed
@pytest.mark.parametrize(("kind", "way"), CASES[:6])
@pytest.mark.parametrize("targets", ["attention", "map"])
def test_adapters_are_merged_to_the_same_numbers(kind, way, targets, tmp_path):
    if targets == "map" and "bands" in way:
        pytest.skip("PEFT adapts single tables")
    model = made(kind, way)
    before = logits(model, ids := tokens())
    attention = {"gpt2": "c_attn", "bert": "query"}.get(kind, "q_proj")
    adapted = _lora(model, [attention if targets == "attention" else "map"])
    found = logits(adapted, ids)
    assert (found - before).abs().max() > 1e-3
    adapted.save_pretrained(tmp_path)
    flag = model.config.tie_word_embeddings
    with warnings.catch_warnings():  # that Map and input table differ, and of a flag
        warnings.filterwarnings("ignore", "Input and output embeddings are no longer tied")
        merged = adapted.merge_and_unload()
    assert merged.config.tie_word_embeddings == flag
    torch.testing.assert_close(logits(merged, ids), found, atol=1e-4, rtol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    loaded = AUTO[kind].from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded, ids), found, atol=1e-4, rtol=1e-3)


@renamed
def test_adapters_are_loaded_again(tmp_path):
    peft = pytest.importorskip("peft")
    model = replace_embedding(MODELS["llama"](), small, tie=True)
    twin = copy.deepcopy(model)
    adapted = _lora(model, ["map", "q_proj"])
    found = logits(adapted, ids := tokens())
    adapted.save_pretrained(tmp_path)
    with warnings.catch_warnings():  # of second names: the first ones are there
        warnings.filterwarnings("ignore", r"Found missing adapter keys.*'base_model.model.lm_head")
        loaded = peft.PeftModel.from_pretrained(twin, tmp_path)
    torch.testing.assert_close(logits(loaded, ids), found)


ADAPTED = {
    "tokens": {"target_modules": ["q_proj"], "trainable_token_indices": {"map": [5, 6]}},
    "whole map": {"target_modules": ["q_proj"], "modules_to_save": ["map"]},
    "all linear layers": {"target_modules": "all-linear"},
    "a head of its own": {"target_modules": ["lm_head"]},
}


@pytest.mark.filterwarnings("ignore")  # PEFT's, of modules that it does not know
@pytest.mark.parametrize("tie", [True, "embedding", False])
@pytest.mark.parametrize("adapted", ADAPTED)
def test_adapters_of_tokens_and_heads(tie, adapted, tmp_path):
    peft = pytest.importorskip("peft")
    if adapted == "a head of its own" and tie:
        pytest.skip("tied")
    model = replace_embedding(MODELS["llama"](), small, tie=tie).eval()
    twin, before = copy.deepcopy(model), logits(model, ids := tokens())
    config = peft.LoraConfig(r=2, init_lora_weights=False, **ADAPTED[adapted])
    adapters = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in (p for p in adapters.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    ids[0, :2] = torch.tensor([5, 6])
    found, before = logits(adapters, ids), logits(twin, ids)
    assert (found - before).abs().max() > 1e-3
    with adapters.disable_adapter():
        assert torch.equal(logits(adapters, ids), before)
    adapters.save_pretrained(tmp_path / "adapters")
    loaded = peft.PeftModel.from_pretrained(twin, tmp_path / "adapters")
    torch.testing.assert_close(logits(loaded, ids), found)
    merged = adapters.merge_and_unload()
    torch.testing.assert_close(logits(merged, ids), found, atol=1e-4, rtol=1e-3)
    merged.save_pretrained(tmp_path / "merged")
    loaded = AUTO["llama"].from_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(loaded, ids), found, atol=1e-4, rtol=1e-3)


@pytest.mark.filterwarnings("ignore")
def test_a_copy_of_a_tied_embedding_is_no_part_of_a_saved_model(tmp_path):
    peft = pytest.importorskip("peft")
    model = replace_embedding(MODELS["llama"](), small, tie=True)
    twin = copy.deepcopy(model)
    config = peft.LoraConfig(target_modules=["q_proj"], modules_to_save=["embed_tokens"])
    adapters = peft.get_peft_model(model, config)
    with torch.no_grad():
        for parameter in (p for p in adapters.parameters() if p.requires_grad):
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    found = logits(adapters, ids := tokens())
    adapters.save_pretrained(tmp_path)
    torch.testing.assert_close(logits(peft.PeftModel.from_pretrained(twin, tmp_path), ids), found)
    with pytest.raises(ValueError, match=r"\['lm_head'\].*would not load"):
        adapters.merge_and_unload().save_pretrained(tmp_path / "merged")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"target_modules": ["embed_tokens"]}, "Target module DeFINE"),
        ({"target_modules": ["lm_head"]}, "Target module TiedHead"),
        ({"target_modules": ["q_proj"], "trainable_token_indices": [5]}, "lm_head.embedding"),
    ],
)
def test_adapters_of_what_is_computed_are_refused(options, words):
    peft = pytest.importorskip("peft")
    model = replace_embedding(MODELS["llama"](), small, tie=True)
    with pytest.raises(ValueError, match=words):
        peft.get_peft_model(model, peft.LoraConfig(**options))


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # of torch, between two graphs
@pytest.mark.parametrize("way", ["map"])
def test_compiled(way, unchecked):
    model = made("llama", way)
    expected = logits(model, ids := tokens())
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, backend="aot_eager")(ids).logits, expected)


def test_two_processes_train_as_one_does(tmp_path):
    script = Path(__file__).with_name("distributed.py")
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)],
        env=os.environ | {"CUDA_VISIBLE_DEVICES": ""},  # by gloo, whatever else is there
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.filterwarnings("ignore")  # of its own imports
def test_sentence_transformers(tmp_path):
    import sentence_transformers
    from sentence_transformers.sentence_transformer import modules

    plain, folder = MODELS["bert"]().base_model, tmp_path / "plain"
    plain.save_pretrained(tmp_path / "bert")
    _tokenizer().save_pretrained(tmp_path / "bert")
    parts = [modules.Transformer(str(tmp_path / "bert"), max_seq_length=4)]
    parts += [modules.Pooling(parts[0].get_embedding_dimension(), "max"), modules.Normalize()]
    before = sentence_transformers.SentenceTransformer(modules=parts, device="cpu")
    before.save_pretrained(str(folder))
    table = plain.get_input_embeddings().weight.detach().clone()
    model = replace_embedding(plain, nn.Embedding.from_pretrained(table, freeze=False))
    model.save_pretrained(tmp_path / "ours")
    assert "1_Pooling/config.json" in carry_files(folder, tmp_path / "ours")
    after = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    assert type(after[0].auto_model).__name__ == "DefineBertModel"
    texts = ["w5 w6 w7 w8 w9", "w5"]
    torch.testing.assert_close(
        after.encode(texts, convert_to_tensor=True), before.encode(texts, convert_to_tensor=True)
    )


def _tokenizer():
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import Whitespace
    from transformers import PreTrainedTokenizerFast

    inner = Tokenizer(WordLevel({f"w{i}": i for i in range(V)}, unk_token="w0"))
    inner.pre_tokenizer = Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=inner, mask_token="w9", pad_token="w3")


def test_pipelines():
    from transformers import pipeline

    tokenizer = _tokenizer()
    model = replace_embedding(MODELS["gpt2"](), small).eval()
    model.generation_config.max_length = None
    (found,) = pipeline("text-generation", model=model, tokenizer=tokenizer, device="cpu")(
        "w5 w6 w7", max_new_tokens=4, do_sample=False
    )
    ids = torch.tensor([[5, 6, 7]])
    expected = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=4, do_sample=False
    )
    words = found["generated_text"].replace("w", " w").split()
    assert words == tokenizer.decode(expected[0], skip_special_tokens=True).split()
    model = replace_embedding(MODELS["bert"](), small).eval()
    best = pipeline("fill-mask", model=model, tokenizer=tokenizer, device="cpu")("w5 w9 w7")
    expected = logits(model, torch.tensor([[5, 9, 7]]))[0, 1].softmax(-1).topk(5)
    assert [row["token"] for row in best] == expected.indices.tolist()


def test_low_precision_is_as_near_as_the_plain_model_is(model):
    plain = export(model)
    expected = logits(model, ids := tokens())
    low = logits(copy.deepcopy(model).to(torch.bfloat16), ids).float()
    reference = logits(plain.to(torch.bfloat16), ids).float()
    scale = expected.std()
    assert (low - expected).std() <= 2 * (reference - expected).std() + 0.01 * scale
