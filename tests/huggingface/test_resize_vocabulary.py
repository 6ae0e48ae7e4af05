import pytest
import torch
from families import tiny_model
from tiny_models import (
    AUTO,
    EMBEDDINGS,
    MODELS,
    PADDING,
    VARIANTS,
    V,
    aligned,
    llama,
    logits,
    marian,
    small_define,
    tokens,
)

from define.huggingface import embedding_of, export, replace_embedding


@pytest.mark.parametrize(("embedding", "tie"), VARIANTS)
@pytest.mark.parametrize("size", [V + 7, V - 9])
def test_first_rows_stay(kind, embedding, tie, size, tmp_path):
    # Trap 7: transformers insists on nn.Embedding here.
    model = replace_embedding(MODELS[kind](), EMBEDDINGS[embedding], tie=tie)
    ids = tokens().clamp_max(size - 1)
    before = logits(model, ids)
    entry = model.get_input_embeddings()
    assert model.resize_token_embeddings(size) is entry
    assert entry.weight.shape[0] == model.config.vocab_size == size
    after = logits(model, ids)
    assert after.shape[-1] == size
    rows = min(size, V)
    torch.testing.assert_close(after[..., :rows], before[..., :rows])
    model.save_pretrained(tmp_path)
    loaded = aligned(AUTO[kind].from_pretrained(tmp_path))
    assert torch.equal(logits(loaded, ids), after)
    logits(model, torch.full((1, 3), size - 1)).sum().backward()


@pytest.mark.parametrize("mean", [True, False])
def test_new_rows(mean):
    model = replace_embedding(llama(), small_define)
    old = embedding_of(model).map.weight.detach().clone()
    model.resize_token_embeddings(10 * V, mean_resizing=mean)
    new = embedding_of(model).map.weight[V:]
    if mean:
        centre = old.mean(0).expand_as(new)
        torch.testing.assert_close(new, centre, atol=1e-2, rtol=0)
        assert new.std(0).min() > 0
    else:
        assert 0.8 < (new.std() / old.std()).item() < 1.2
        assert abs(new.mean().item()) < 0.1 * old.std().item()
    assert not embedding_of(model).weight[PADDING].any()


def test_sizes():
    model = replace_embedding(llama(), small_define)
    table = embedding_of(model).map.weight
    model.resize_token_embeddings()
    model.resize_token_embeddings(V)
    assert embedding_of(model).map.weight is table
    model.resize_token_embeddings(pad_to_multiple_of=64)
    assert model.config.vocab_size == embedding_of(model).num_embeddings == 128
    assert model.config.define["embedding"]["num_embeddings"] == 128
    assert model.get_output_embeddings().out_features == 128


def test_what_cannot_be_cut_off():
    model = replace_embedding(llama(), small_define)
    with pytest.raises(ValueError, match="num_embeddings=3 .* padding_idx=3"):
        model.resize_token_embeddings(PADDING)
    with pytest.raises(ValueError, match="pad_to_multiple_of=0"):
        model.resize_token_embeddings(pad_to_multiple_of=0)
    model = replace_embedding(llama(), EMBEDDINGS["adaptive"])
    with pytest.raises(ValueError, match=r"num_embeddings=60 .*\(20, 60\)"):
        model.resize_token_embeddings(60)
    assert logits(model, tokens()).shape[-1] == V


def apart(**options):
    """An encoder and a decoder with tables of their own."""
    return marian(
        share_encoder_decoder_embeddings=False,
        decoder_vocab_size=90,
        tie_word_embeddings=False,
        **options,
    )


def both(model, source, target):
    return model.eval()(source, decoder_input_ids=target).logits


ENCODER, DECODER = "model.encoder.embed_tokens", "model.decoder.embed_tokens"


@pytest.mark.parametrize("replaced", [None, ENCODER, DECODER, "lm_head"])
@pytest.mark.parametrize("change", [7, -9])
def test_tables_of_their_own_are_resized_by_themselves(replaced, change, tmp_path):
    model = replace_embedding(apart(), small_define, table=replaced)
    source, target = tokens().clamp_max(80), tokens().clamp_max(80)
    before = both(model, source, target)
    model.resize_token_embeddings(V + change)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (V + change, 90)
    torch.testing.assert_close(both(model, source, target), before)
    both(model, source * 0 + V + change - 1, target)
    if replaced in (None, DECODER):
        model.resize_token_embeddings(90 + change, table=DECODER)
    else:
        model.resize_decoder_token_embeddings(90 + change)
    assert (model.config.vocab_size, model.config.decoder_vocab_size) == (V + change, 90 + change)
    after = both(model, source, target)
    assert after.shape[-1] == 90 + change == model.final_logits_bias.shape[-1]
    rows = min(90, 90 + change)
    torch.testing.assert_close(after[..., :rows], before[..., :rows])
    both(model, source, target * 0 + 90 + change - 1).sum().backward()
    torch.testing.assert_close(both(export(model), source, target), after, atol=1e-4, rtol=1e-4)
    model.save_pretrained(tmp_path)
    loaded = aligned(AUTO["marian"].from_pretrained(tmp_path))
    assert torch.equal(both(loaded, source, target), after)
    with pytest.raises(ValueError, match="'shared' must be one of"):
        model.resize_token_embeddings(50, table="shared")


def test_equal_sizes_of_tables_of_their_own_are_not_confused():
    model = replace_embedding(tiny_model("fsmt"), small_define)
    model.resize_token_embeddings(V + 5)
    assert (model.config.src_vocab_size, model.config.tgt_vocab_size) == (V + 5, V)
    assert embedding_of(model, DECODER).num_embeddings == V


def test_a_table_of_the_layers_is_resized_by_itself():
    name = "model.embed_tokens_per_layer"
    model = replace_embedding(tiny_model("gemma3n_text"), small_define, table=name)
    before = logits(model, ids := tokens())
    found = model.resize_token_embeddings(V + 5, table=name)
    assert found is model.get_submodule(name) and found.embedding is embedding_of(model, name)
    assert (model.config.vocab_size, model.config.vocab_size_per_layer_input) == (V, V + 5)
    torch.testing.assert_close(logits(model, ids), before)
    model.resize_token_embeddings(V + 9)  # and with the input table, as in transformers
    assert (model.config.vocab_size, model.config.vocab_size_per_layer_input) == (V + 9, V + 9)
    assert embedding_of(model, name).num_embeddings == V + 9
    torch.testing.assert_close(logits(model, ids)[..., :V], before)


def test_a_head_with_a_table_of_its_own_follows_the_input():
    model = replace_embedding(llama(tie_word_embeddings=False), small_define, table="lm_head")
    before = logits(model, ids := tokens())
    with pytest.raises(ValueError, match="lm_head of DefineLlamaForCausalLM follows its input"):
        model.resize_token_embeddings(V + 5, table="lm_head")
    entry = model.resize_token_embeddings(V + 5)
    assert entry.num_embeddings == embedding_of(model, "lm_head").num_embeddings == V + 5
    torch.testing.assert_close(logits(model, ids)[..., :V], before)
