import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import MarianMTModel

from define import DeFINE, ProjectedEmbedding, Softmax, TiedSoftmax
from define.measures.paper import translation_counts, unit
from define.translation.model import TranslationModel

V = 40
MAKERS = {
    "standard": lambda: nn.Embedding(V, 16),
    "projected": lambda: ProjectedEmbedding(V, 16, map=8),
    "DeFINE": lambda: DeFINE(V, 16, map=8, expand_dim=16, depth=2, max_groups=2),
}


def small(kind="DeFINE", share=True, tie=True, dropout=0.0):
    modules = [MAKERS[kind]() for _ in range(1 if share else 2)]
    table = getattr(modules[-1], "map", modules[-1])
    head = TiedSoftmax(table, 16) if tie else Softmax(16, V)
    nn.init.normal_(head.bias)
    options = {"num_layers": 2, "num_heads": 2, "inner_dim": 24, "max_length": 12}
    other = None if share else modules[1]
    model = TranslationModel(modules[0], head, target_embedding=other, dropout=dropout, **options)
    return model.eval()


def batch():
    source, targets = torch.randint(2, V, (2, 3, 7))
    source[1, 4:], targets[1, 5:] = 0, -100
    return source, targets


def test_loss_is_cross_entropy_of_the_output_layer():
    model, (source, targets) = small(), batch()
    logits = model.head.log_prob(model.hidden(source, targets))
    expected = F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(model(source, targets), expected.view(targets.shape))
    assert (model(source, targets)[1, 5:] == 0).all()


def test_no_target_is_seen_before_its_place():
    model, (source, targets) = small(), batch()
    changed = targets.clone()
    changed[:, 3] = (changed[:, 3] + 1) % V
    one, two = model.hidden(source, targets), model.hidden(source, changed)
    assert torch.equal(one[:, :4], two[:, :4])  # place 3 predicts target 3
    assert not torch.allclose(one[:, 4], two[:, 4])


def test_padding_changes_nothing():
    model, (source, targets) = small(), batch()
    alone = model(source[1:2, :4], targets[1:2, :5])
    torch.testing.assert_close(model(source, targets)[1:2, :5], alone)


@pytest.mark.parametrize("kind", MAKERS)
@pytest.mark.parametrize(("share", "tie"), [(True, True), (False, True), (False, False)])
def test_folded_into_a_plain_marian_model(kind, share, tie, tmp_path):
    model, (source, targets) = small(kind, share, tie), batch()
    before = F.pad(targets.masked_fill(targets < 0, 0)[:, :-1], (1, 0))
    plain = model.to_marian().eval()
    plain.save_pretrained(tmp_path)
    loaded = MarianMTModel.from_pretrained(tmp_path).eval()
    expected = model.head.log_prob(model.hidden(source, targets))
    for marian in (plain, loaded):
        found = marian(source, attention_mask=(source != 0).long(), decoder_input_ids=before)
        torch.testing.assert_close(found.logits.log_softmax(-1), expected, rtol=1e-4, atol=1e-4)
    assert not any("embed_tokens" in name for name in model.state_dict())


@pytest.mark.parametrize("share", [True, False])
def test_one_owner_for_each_parameter(share):
    model = small("DeFINE", share)
    pointers = [value.data_ptr() for value in model.state_dict().values()]
    assert len(set(pointers)) == len(pointers)
    counts = model.parameter_counts()
    assert counts.total == sum(p.numel() for p in model.parameters() if p.requires_grad)
    embeddings = {model.embedding, model.decoder_embedding}
    assert counts.unit == sum(p.numel() for e in embeddings for p in e.parameters()) - sum(
        e.map.weight.numel() for e in embeddings
    )


@pytest.mark.parametrize("size", [31_000, 37_000])
@pytest.mark.parametrize("max_groups", [None, 128])
def test_counts_of_the_base_transformer(size, max_groups):
    with torch.device("meta"):
        tables = [nn.Embedding(size, 128 if max_groups else 512) for _ in range(2)]
        if max_groups:
            modules = [unit(table, 512, max_groups=max_groups) for table in tables]
        else:
            modules = tables
        model = TranslationModel(modules[0], Softmax(512, size), target_embedding=modules[1])
    counts = model.parameter_counts()
    assert counts == translation_counts(size, max_groups)
    assert counts.context == 44_138_496
    if size == 31_000:
        printed = counts.total if max_groups is None else counts.total - counts.unit
        assert round(printed / 1e6) == (92 if max_groups is None else 68)


def test_parts_must_fit():
    embedding = nn.Embedding(V, 16)
    with pytest.raises(ValueError, match="head.num_classes=9 must be 40"):
        TranslationModel(embedding, Softmax(16, 9))
    with pytest.raises(ValueError, match="head.in_features=8 must be 16"):
        TranslationModel(embedding, Softmax(8, V))
    with pytest.raises(ValueError, match="target_embedding.embedding_dim=8"):
        TranslationModel(embedding, Softmax(16, V), target_embedding=nn.Embedding(V, 8))
    with pytest.raises(ValueError, match="head is tied to a module .* neither trained nor saved"):
        TranslationModel(embedding, TiedSoftmax(nn.Embedding(V, 16)))
    with pytest.raises(ValueError, match="num_heads=3 must divide"):
        TranslationModel(embedding, Softmax(16, V), num_heads=3)
    with pytest.raises(ValueError, match="13 places of a sentence must be at most longest=12"):
        small().hidden(torch.ones(1, 13, dtype=torch.long), torch.ones(1, 3, dtype=torch.long))
