"""What models do with their tables: padding that is a token, several tables, heads of their own."""

import pytest
import torch
import transformers
from families import auto_class, tiny_config, tiny_model
from tiny_models import (
    AUTO,
    EMBEDDINGS,
    MODELS,
    PADDING,
    M,
    V,
    aligned,
    bert,
    gpt2,
    llama,
    logits,
    marian,
    small_define,
    tokens,
)
from torch import nn
from transformers import PreTrainedConfig

from define import DeFINE, ProjectedEmbedding
from define.huggingface import (
    TiedHead,
    embedding_of,
    export,
    find_tables,
    replace_embedding,
)
from define.huggingface.twins import output, tiny_batch


def test_a_padding_row_that_is_a_token_stays():
    plain = llama(eos_token_id=PADDING, pad_token_id=PADDING)
    with torch.no_grad():
        plain.get_input_embeddings().weight[PADDING] = torch.randn(M)
    (table,) = find_tables(plain)
    assert table.module.padding_idx == PADDING and table.padding_idx is None
    model = replace_embedding(plain, small_define)
    embedding = embedding_of(model)
    assert embedding.padding_idx is None and embedding.weight[PADDING].any()
    ids = tokens()
    ids[:, 2] = PADDING
    logits(model, ids).sum().backward()
    assert embedding.map.weight.grad[PADDING].any()
    rows = plain.get_input_embeddings().weight.detach().clone()
    copied = replace_embedding(plain, nn.Embedding.from_pretrained(rows, freeze=False))
    assert torch.equal(logits(copied, ids), logits(plain, ids))


def test_a_padding_row_that_is_a_token_is_loaded(tmp_path):
    plain = llama()
    with torch.no_grad():
        plain.get_input_embeddings().weight[PADDING] = 1.0
    model = replace_embedding(plain, small_define)
    ids = torch.tensor([[PADDING, 5, PADDING]])
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(aligned(AUTO["llama"].from_pretrained(tmp_path)), ids), expected)


def apart(**options):
    return marian(
        share_encoder_decoder_embeddings=False,
        decoder_vocab_size=90,
        tie_word_embeddings=False,
        **options,
    )


def test_two_tables_are_both_replaced(tmp_path):
    plain = apart()
    names = [table.name for table in find_tables(plain)]
    assert names == ["model.encoder.embed_tokens", "model.decoder.embed_tokens", "lm_head"]
    model = replace_embedding(plain, small_define)
    second = embedding_of(model, names[1])
    assert (embedding_of(model).num_embeddings, second.num_embeddings) == (V, 90)
    batch = tiny_batch(model)
    expected = output(model, batch)
    model.save_pretrained(tmp_path)
    loaded = AUTO["marian"].from_pretrained(tmp_path)
    torch.testing.assert_close(output(loaded, batch), expected)
    torch.testing.assert_close(output(export(model), batch), expected)
    with pytest.raises(ValueError, match="has 2 tables .*name one of them"):
        replace_embedding(plain, ProjectedEmbedding(V, M, map=8))


@pytest.mark.parametrize("kind", ["marian", "bart"])
@pytest.mark.parametrize("tie", [True, "embedding"])
def test_a_head_is_tied_to_one_of_several_tables(kind, tie, tmp_path):
    plain = apart() if kind == "marian" else tiny_model("bart", tie_word_embeddings=False)
    model = replace_embedding(plain, small_define, tie=tie)
    head = model.get_output_embeddings()
    assert head.embedding is model.get_decoder().embed_tokens
    assert head.embedding is not model.get_encoder().embed_tokens
    expected = output(model, batch := tiny_batch(model))
    model.save_pretrained(tmp_path)
    loaded = AUTO["marian"].from_pretrained(tmp_path)
    torch.testing.assert_close(output(loaded, batch), expected)
    torch.testing.assert_close(output(export(model), batch), expected, atol=1e-4, rtol=1e-3)


def test_one_table_is_chosen_by_name(tmp_path):
    plain = apart()
    name = "model.decoder.embed_tokens"
    model = replace_embedding(plain, ProjectedEmbedding(90, M, map=8), table=name)
    assert type(model.get_encoder().embed_tokens) is nn.Embedding
    assert type(embedding_of(model, name)) is ProjectedEmbedding
    with pytest.raises(ValueError, match="no embedding for table=None"):
        embedding_of(model)
    batch = tiny_batch(model)
    model.save_pretrained(tmp_path)
    loaded = AUTO["marian"].from_pretrained(tmp_path)
    torch.testing.assert_close(output(loaded, batch), output(model, batch))
    with pytest.raises(ValueError, match=r"table='shared' must be one of \['model.encoder.emb"):
        replace_embedding(plain, small_define, table="shared")


@pytest.mark.parametrize(
    ("plain", "name"),
    [
        (bert(), "bert.embeddings.word_embeddings"),  # 2 types of segments are no tokens
        (bert(type_vocab_size=V), "bert.embeddings.word_embeddings"),
        (gpt2(n_positions=V), "transformer.wte"),  # as many positions as tokens
    ],
)
def test_tables_as_long_as_a_vocabulary_that_have_no_tokens(plain, name):
    assert [table.name for table in find_tables(plain)] == [name]


def test_a_table_of_the_layers():
    plain = tiny_model("gemma3n_text")
    name = "model.embed_tokens_per_layer"
    assert name in [table.name for table in find_tables(plain)]
    model = replace_embedding(plain, small_define, table=name)
    batch = tiny_batch(model)
    torch.testing.assert_close(output(export(model), batch), output(model, batch))
    rows = plain.get_submodule(name).weight.detach().clone()
    copied = replace_embedding(plain, nn.Embedding.from_pretrained(rows, freeze=False), table=name)
    torch.testing.assert_close(output(copied, batch), output(plain, batch))


def test_a_head_with_a_table_of_its_own(tmp_path):
    plain = llama(tie_word_embeddings=False)
    inputs, head = find_tables(plain)
    assert (inputs.heads, head.name, head.inputs) == ((), "lm_head", ())
    model = replace_embedding(plain, small_define, table="lm_head")
    assert isinstance(model.get_output_embeddings(), TiedHead)
    assert type(model.get_input_embeddings()) is nn.Embedding
    hidden = torch.randn(3, M)
    table = embedding_of(model, "lm_head").weight
    torch.testing.assert_close(model.lm_head(hidden), hidden @ table.T)
    ids = tokens()
    expected = logits(model, ids)
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(aligned(AUTO["llama"].from_pretrained(tmp_path)), ids), expected)
    torch.testing.assert_close(logits(export(model), ids), expected, atol=1e-4, rtol=1e-4)
    weight = plain.lm_head.weight.detach().clone()
    copied = replace_embedding(
        plain, nn.Embedding.from_pretrained(weight, freeze=False), table="lm_head"
    )
    torch.testing.assert_close(logits(copied, ids), logits(plain, ids))


@pytest.mark.parametrize("embedding", ["define", "adaptive"])
def test_heads_on_the_rows_that_the_unit_computes(kind, embedding, tmp_path):
    model = replace_embedding(MODELS[kind](), EMBEDDINGS[embedding], tie="embedding").eval()
    head = model.get_output_embeddings()
    hidden = torch.randn(2, 3, M)
    bias = 0 if head.bias is None else head.bias
    torch.testing.assert_close(head(hidden), hidden @ embedding_of(model).weight.T + bias)
    head(hidden).square().sum().backward()
    assert all(p.grad is not None for p in embedding_of(model).parameters())
    model.save_pretrained(tmp_path)
    loaded = AUTO[kind].from_pretrained(tmp_path)
    assert loaded.config.define["tie"] == "embedding"
    assert torch.equal(logits(aligned(loaded), ids := tokens()), logits(model, ids))


@pytest.fixture
def made(monkeypatch):
    """How many rows were computed, by each call."""
    calls, plain = [], DeFINE.from_map
    monkeypatch.setattr(
        DeFINE, "from_map", lambda self, e_i: calls.append(e_i[..., 0].numel()) or plain(self, e_i)
    )
    return calls


def test_rows_are_computed_once_a_step_for_input_and_output(kind, made):
    model = replace_embedding(MODELS[kind](), small_define, tie="embedding", check=False).train()
    ids = tokens()
    made.clear()
    for _ in range(2):
        logits(model, ids).square().mean().backward()
        assert made == [V]
        made.clear()
        torch.optim.SGD(model.parameters(), lr=0.1).step()
    with torch.no_grad():
        found = logits(model, ids)
        assert made == [V]
        assert torch.equal(logits(model, ids), found) and made == [V]
        embedding_of(model).map.weight.mul_(2)
        assert not torch.allclose(logits(model, ids), found)
        assert made == [V, V]
        model.to(torch.bfloat16)
        assert logits(model, ids).dtype == torch.bfloat16
        model.float().resize_token_embeddings(V + 4, check=False)
        assert logits(model, ids).shape[-1] == V + 4


@pytest.mark.parametrize("tie", [True, "embedding"])
def test_a_table_that_a_head_computes_is_only_read(tie):
    head = replace_embedding(gpt2(), small_define, tie=tie).get_output_embeddings()
    with torch.no_grad(), pytest.raises(RuntimeError, match="set_rows"):
        head.weight[3] = torch.zeros(M)
    stored = replace_embedding(gpt2(), nn.Embedding).get_output_embeddings()
    with torch.no_grad():
        stored.weight[3] = torch.ones(M)
    assert stored(torch.ones(M))[3] == M


def test_an_exchanged_embedding_is_refused(tmp_path):
    model = replace_embedding(gpt2(), small_define)
    with pytest.raises(ValueError, match="replace_embedding\\(export"):
        model.set_input_embeddings(nn.Embedding(V, M))
    model.transformer.set_input_embeddings(nn.Embedding(V, M))
    with pytest.raises(ValueError, match=r"now a Embedding.*\['lm_head'\]"):
        model.save_pretrained(tmp_path)


def test_an_exchanged_head_is_loaded_or_refused(tmp_path):
    model = replace_embedding(MODELS["bert"](), small_define)
    with pytest.raises(ValueError, match="DefineBertForMaskedLM has a bias; the new Linear must"):
        model.set_output_embeddings(nn.Linear(M, V, bias=False))
    head = nn.Linear(M, V)
    model.cls.predictions.bias = head.bias
    model.set_output_embeddings(head)
    expected = logits(model, ids := tokens())
    model.save_pretrained(tmp_path)
    assert torch.equal(logits(aligned(AUTO["bert"].from_pretrained(tmp_path)), ids), expected)


def test_the_old_model_stays_and_shares_its_weights():
    plain = gpt2(n_layer=2).eval()
    plain.transformer.h[1].mlp = plain.transformer.h[0].mlp
    plain.transformer.ln_f.requires_grad_(False)
    getattr(plain, "activation_checkpointing_enable", plain.gradient_checkpointing_enable)()
    expected = logits(plain, ids := tokens())
    model = replace_embedding(plain, small_define)
    assert model.transformer.h[1].mlp.c_fc.weight is model.transformer.h[0].mlp.c_fc.weight
    assert not model.transformer.ln_f.weight.requires_grad
    assert any(getattr(part, "gradient_checkpointing", False) for part in model.modules())
    assert model.generation_config is not plain.generation_config
    assert type(plain).__name__ == "GPT2LMHeadModel" and not hasattr(plain.config, "define")
    assert torch.equal(logits(plain, ids), expected)
    ours, theirs = model.transformer.h[0].mlp.c_fc.weight, plain.transformer.h[0].mlp.c_fc.weight
    assert ours is not theirs and ours.data_ptr() == theirs.data_ptr()
    model.to(torch.bfloat16)
    assert theirs.dtype == torch.float32


@pytest.mark.parametrize("kind", ["llava", "encoder-decoder", "kosmos-2.5"])
@pytest.mark.parametrize("flags", [(True, False), (False, True)])
def test_flags_that_parts_have_of_their_own(kind, flags, tmp_path):
    auto, cls = auto_class(kind)
    config = tiny_config(kind, tie_word_embeddings=flags[0])
    for part in vars(config).values():
        if isinstance(part, PreTrainedConfig):
            part.tie_word_embeddings = flags[1]
    torch.manual_seed(0)
    plain = cls(config).eval()
    model = replace_embedding(plain, small_define)
    expected = output(model, batch := tiny_batch(model))
    for name, saved in (("ours", model), ("plain", export(model))):
        saved.save_pretrained(tmp_path / name)
        loaded = auto.from_pretrained(tmp_path / name)
        torch.testing.assert_close(output(loaded, batch), expected, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize(
    "kind", ["BlipForConditionalGeneration", "Kosmos2_5ForConditionalGeneration"]
)
def test_heads_that_a_model_does_not_name(kind, tmp_path):
    cls = getattr(transformers, kind)
    torch.manual_seed(0)
    plain = cls(tiny_config(cls.config_class.model_type)).eval()
    (table,) = find_tables(plain)
    assert len(table.heads) == 1
    model = replace_embedding(plain, small_define)
    expected = output(model, batch := tiny_batch(model))
    folded = export(model)
    torch.testing.assert_close(output(folded, batch), expected, atol=1e-4, rtol=1e-3)
    folded.save_pretrained(tmp_path)
    loaded = cls.from_pretrained(tmp_path)
    torch.testing.assert_close(output(loaded, batch), expected, atol=1e-4, rtol=1e-3)
    head = loaded.get_submodule(table.heads[0])
    assert head.weight is not loaded.get_submodule(table.inputs[0]).weight
