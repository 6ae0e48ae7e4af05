import copy

import pytest
import torch
import transformers
from tiny_models import (
    AUTO,
    CAUSAL,
    EMBEDDINGS,
    MODELS,
    PADDING,
    M,
    V,
    bert,
    logits,
    small_define,
    tokens,
)
from torch import nn
from transformers import AutoModel, PreTrainedTokenizerFast, ViTConfig, ViTModel

from define import AdaptiveEmbedding, DeFINE
from define.huggingface import (
    TiedHead,
    check_tokenizer,
    embedding_of,
    export,
    replace_embedding,
)


@pytest.mark.parametrize("tie", [None, False])
def test_a_copy_of_the_table_changes_nothing(kind, tie):
    # Scales (Gemma inside, Marian outside), padding, biases and three-way sharing all stay.
    plain = MODELS[kind]()
    table = plain.get_input_embeddings()
    ids = tokens()
    ids[0, :2] = PADDING if table.padding_idx is not None else ids[0, :2]
    expected = logits(plain, ids)
    embedding = nn.Embedding.from_pretrained(table.weight.detach().clone(), freeze=False)
    model = replace_embedding(plain, embedding, tie=tie)
    assert torch.equal(logits(model, ids), expected)
    assert embedding_of(model) is embedding


@pytest.mark.parametrize("embedding", ["define", "projected", "adaptive"])
def test_input_is_what_the_embedding_says(kind, embedding):
    model = replace_embedding(MODELS[kind](), EMBEDDINGS[embedding], tie=False)
    plain = MODELS[kind]()
    table = embedding_of(model).weight
    state = {k: v for k, v in model.state_dict().items() if k in plain.state_dict()}
    plain.load_state_dict(state, strict=False)
    plain.config.tie_word_embeddings = False
    head = plain.get_output_embeddings()
    head.weight = nn.Parameter(model.get_output_embeddings().weight.detach())
    parts = [plain.get_input_embeddings()]
    if kind == "marian":
        parts.append(plain.model.decoder.embed_tokens)
    for part in parts:
        part.weight = nn.Parameter(table.detach())
    ids = tokens()
    torch.testing.assert_close(logits(model, ids), logits(plain, ids))


def test_tied_logits_are_products_with_the_map(kind):
    model = replace_embedding(MODELS[kind](), small_define)
    head, embedding = model.get_output_embeddings(), embedding_of(model)
    assert isinstance(head, TiedHead) and head.projection.weight.shape == (16, M)
    hidden = torch.randn(2, 3, M)
    expected = hidden @ head.projection.weight.T @ embedding.map.weight.T
    if kind == "bert":
        nn.init.normal_(model.cls.predictions.bias)  # one parameter in two places
        expected = expected + model.cls.predictions.bias
    torch.testing.assert_close(head(hidden), expected)
    linear = head.to_linear()
    torch.testing.assert_close(linear(hidden), expected)


def test_head_tied_to_bands_equals_their_table():
    embedding = AdaptiveEmbedding(V, M, PADDING, cutoffs=[20, 60], map_dim=16, div_value=2)
    head = TiedHead(embedding, M)
    head.bias = nn.Parameter(torch.empty(V))
    nn.init.normal_(head.bias)
    hidden = torch.randn(2, M)
    torch.testing.assert_close(head(hidden), hidden @ embedding.weight.T + head.bias)


def test_no_old_table_stays(kind):
    # Trap 1: the output head would keep it.
    model = replace_embedding(MODELS[kind](), small_define)
    assert (V, M) not in {tuple(p.shape) for p in model.parameters()}


def test_each_parameter_has_one_owner(kind):
    # Names that are tied must be those of real parameters, and each but one be declared.
    model = replace_embedding(MODELS[kind](), small_define)
    names = dict(model.named_parameters(remove_duplicate=False))
    doubles = {k for k, p in names.items() if sum(p is q for q in names.values()) > 1}
    ties = model.all_tied_weights_keys
    assert doubles == {*ties, *ties.values()}
    owners = {id(names[name]): name for name in names if name not in ties}
    assert all(owners[id(names[name])] == source for name, source in ties.items())


def test_inner_models_tie_nothing(kind):
    # Trap 3, and ties cut the biases of group linear layers.
    model = replace_embedding(MODELS[kind](), small_define)
    shapes = {k: p.shape for k, p in model.named_parameters()}
    before = logits(model, ids := tokens())
    model.tie_weights()
    model.base_model.tie_weights()
    assert {k: p.shape for k, p in model.named_parameters()} == shapes
    assert torch.equal(logits(model, ids), before)


def test_initialization_of_the_model_leaves_the_embedding(kind):
    # Trap 5: transformers would draw it anew with deviation 0.02.
    model = replace_embedding(MODELS[kind](), small_define)
    parts = [embedding_of(model), model.get_output_embeddings()]
    before = [copy.deepcopy(part.state_dict()) for part in parts]
    model.post_init()
    for part, state in zip(parts, before, strict=True):
        assert all(torch.equal(tensor, state[key]) for key, tensor in part.state_dict().items())


def test_embedding_adds_no_buffers(kind):
    # Trap 6: buffers that are not saved come back as garbage.
    plain = MODELS[kind]()
    before = {name for name, _ in plain.named_buffers()}
    after = {name for name, _ in replace_embedding(plain, small_define).named_buffers()}
    assert after <= before


def test_padding_is_kept():
    model = replace_embedding(MODELS["bert"](), small_define)
    embedding = embedding_of(model)
    assert embedding.padding_idx == embedding.map.padding_idx == PADDING
    assert not embedding.map.weight[PADDING].any() and not embedding.weight[PADDING].any()
    with pytest.raises(ValueError, match=f"padding_idx=5 .* {PADDING}"):
        replace_embedding(MODELS["bert"](), small_define(V, M, 5))


def test_encoder_and_decoder_share_one_embedding():
    model = replace_embedding(MODELS["marian"](), small_define)
    for copied in (model, copy.deepcopy(model)):
        shared = copied.model.shared
        assert copied.model.encoder.embed_tokens is shared
        assert copied.model.decoder.embed_tokens is shared
        assert copied.get_output_embeddings().embedding is shared


def test_device_and_type_follow_the_table():
    model = replace_embedding(MODELS["llama"]().to(torch.bfloat16), small_define)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert logits(model, tokens()).dtype == torch.bfloat16


def test_configuration_of_other_models_stays():
    first = MODELS["gpt2"]()
    second = replace_embedding(first, small_define)
    assert first.config.model_type == "gpt2" and not hasattr(first.config, "define")
    assert second.transformer.config is second.config


@pytest.mark.parametrize("kind", CAUSAL)
def test_left_padding_changes_no_logits(kind):
    model = replace_embedding(MODELS[kind](), small_define)
    ids = tokens(1)
    padded = torch.cat([torch.full((1, 4), PADDING), ids], 1)
    mask = (torch.arange(padded.shape[1]) >= 4).long()[None]
    positions = (mask.cumsum(-1) - 1).clamp_min(0)
    found = logits(model, padded, attention_mask=mask, position_ids=positions)[:, 4:]
    torch.testing.assert_close(found, logits(model, ids), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", [*CAUSAL, "marian"])
@pytest.mark.parametrize("beams", [1, 3])
def test_generation_with_and_without_cache(kind, beams):
    model = replace_embedding(MODELS[kind](), small_define).eval()
    ids = tokens()
    options = {"num_beams": beams, "max_new_tokens": 6, "do_sample": False}
    options["attention_mask"] = torch.ones_like(ids)
    cached = model.generate(ids, use_cache=True, **options)
    assert torch.equal(cached, model.generate(ids, use_cache=False, **options))
    if beams == 1 and kind != "marian":  # each step is the likeliest next word
        wanted = ids
        for _ in range(cached.shape[1] - ids.shape[1]):
            following = logits(model, wanted)[:, -1:].argmax(-1)
            wanted = torch.cat([wanted, following], 1)
        ended = (cached == 2).cumsum(-1) - (cached == 2).long() > 0
        assert torch.equal(wanted[~ended], cached[~ended])


def test_what_a_model_was_made_without_stays_away(tmp_path):
    config = bert().config
    alone = transformers.BertModel(config, add_pooling_layer=False)
    options = {**config.to_dict(), "is_decoder": True, "add_cross_attention": True}
    decoder = transformers.BertLMHeadModel(type(config)(**options))
    both = transformers.EncoderDecoderModel(encoder=copy.deepcopy(alone), decoder=decoder)
    both.config.decoder_start_token_id = 1
    for plain, path in ((alone, ""), (both, "encoder")):
        model = replace_embedding(plain, small_define)
        assert model.get_submodule(path).pooler is None
        model.save_pretrained(tmp_path / type(plain).__name__)
        loaded = type(model).from_pretrained(tmp_path / type(plain).__name__)
        assert loaded.get_submodule(path).pooler is None


def test_random_numbers_go_on_as_they_would(monkeypatch):
    monkeypatch.delattr(torch.cuda, "manual_seed_all")  # those of GPUs, too
    plain = MODELS["gpt2"]()
    embedding = small_define(V, M)
    state = torch.get_rng_state()
    export(replace_embedding(plain, embedding, tie=False))
    assert torch.equal(torch.get_rng_state(), state)


def test_gradients_with_checkpointing(kind):
    model = replace_embedding(MODELS[kind](), small_define)
    ids = tokens()

    def gradients():
        torch.manual_seed(0)  # the same dropout
        model.zero_grad()
        model.train()(ids, labels=ids).loss.backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    plain = gradients()
    for name, _ in embedding_of(model).named_parameters():
        assert any(key.endswith(name) for key in plain)
    # Its name changes with transformers 6.
    enable = getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)
    enable({"use_reentrant": False})
    assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    for name, gradient in gradients().items():
        torch.testing.assert_close(gradient, plain[name])


def test_bad_input():
    with pytest.raises(TypeError, match="Linear"):
        replace_embedding(nn.Linear(2, 2), small_define)
    vision = ViTModel(
        ViTConfig(image_size=4, patch_size=2, num_channels=1, **{**_VIT, "hidden_size": 8})
    )
    with pytest.raises(ValueError, match="ViTModel has no input embedding"):
        replace_embedding(vision, small_define)
    with pytest.raises(ValueError, match=r"\(90, 32\).*\(100, 32\)"):
        replace_embedding(MODELS["gpt2"](), small_define(90, M))
    with pytest.raises(ValueError, match=r"\(100, 16\).*\(100, 32\)"):
        replace_embedding(MODELS["gpt2"](), lambda v, m: small_define(v, m // 2))
    with pytest.raises(TypeError, match="int"):
        replace_embedding(MODELS["gpt2"](), lambda v, m: v)
    done = replace_embedding(MODELS["gpt2"](), small_define)
    with pytest.raises(ValueError, match="already has an embedding of this package, DeFINE"):
        replace_embedding(done, small_define)
    with pytest.raises(ValueError, match="GPT2Model: none"):
        replace_embedding(MODELS["gpt2"]().transformer, small_define, tie=True)
    with pytest.raises(ValueError, match="tie='first-band' must be True .the Map., False,"):
        replace_embedding(MODELS["gpt2"](), small_define, tie="first-band")


_VIT = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8}


def test_a_failed_replacement_leaves_the_model():
    model = MODELS["gpt2"]()
    before = logits(model, ids := tokens())

    class Unknown(DeFINE):
        def __init__(self, *sizes, **options):  # by which names?
            super().__init__(*sizes, **options)

    with pytest.raises(TypeError, match="Unknown"):
        replace_embedding(model, lambda v, m: Unknown(v, m, map=8, expand_dim=16, max_groups=2))
    assert torch.equal(logits(model, ids), before)


def _tokenizer(size):
    from tokenizers import Tokenizer, models

    words = {f"w{i}": i for i in range(size)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, "w0")))


def test_tokenizer_larger_than_the_table():
    model = replace_embedding(MODELS["gpt2"](), small_define)
    check_tokenizer(model, _tokenizer(V))
    with pytest.raises(ValueError, match=rf"up to {V}, {V + 1} in all.* {V} rows"):
        check_tokenizer(model, _tokenizer(V + 1))
    model.resize_token_embeddings(V + 1)
    check_tokenizer(model, _tokenizer(V + 1))


def test_tokenizer_with_another_padding():
    model = replace_embedding(MODELS["llama"](), small_define)
    tokenizer = _tokenizer(V)
    tokenizer.pad_token = "w7"
    with pytest.raises(ValueError, match="pad_token_id=7 .* padding_idx=3"):
        check_tokenizer(model, tokenizer)


def test_models_without_a_head():
    model = replace_embedding(MODELS["bert"]().bert, small_define)
    assert type(model).__name__ == "DefineBertModel"
    assert not model.config.define["tie"]
    twin = AutoModel.from_config(model.config)
    assert type(twin) is type(model)
    assert AUTO["bert"].from_config(model.config).config.model_type == "define"
