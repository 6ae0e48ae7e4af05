import pytest
import torch
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
    small_define,
    tokens,
)

from define.huggingface import embedding_of, replace_embedding


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
