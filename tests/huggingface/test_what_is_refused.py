"""Tables that are read in ways that are not understood are refused, and what a check finds."""

import pytest
import torch
from families import tiny_model
from tiny_models import (
    M,
    V,
    gpt2,
    llama,
    small_define,
)
from torch import nn
from transformers import GPT2LMHeadModel

from define.huggingface import (
    export,
    find_tables,
    replace_embedding,
)
from define.huggingface.twins import output, tiny_batch


def test_the_check_knows_what_a_model_computes_with():
    model = replace_embedding(tiny_model("mamba").to(torch.bfloat16), small_define)
    assert output(model, batch := tiny_batch(model)).dtype == torch.bfloat16
    assert model(**batch).logits.dtype == torch.float32
    export(model)


def test_a_model_that_was_changed_is_refused():
    model = gpt2()
    model.transformer.h.append(model.transformer.h[0])
    model = model.eval()
    with pytest.raises(ValueError, match="changed since it was made"):
        other = gpt2(n_layer=2)
        other.transformer.h = nn.ModuleList([other.transformer.h[0]])
        replace_embedding(other, small_define)
    longer = gpt2()
    longer.transformer.wpe = nn.Embedding(80, M)  # 64 by the configuration
    with pytest.raises(ValueError, match=r"transformer.wpe.weight .*changed since it was made"):
        replace_embedding(longer, small_define)


def test_a_model_without_memory_is_replaced():
    with torch.device("meta"):
        plain = llama()
    model = replace_embedding(plain, small_define)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert model.config.define["embedding"]["class"] == "DeFINE"


class Shifted(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids).clamp(-1, 1)


class Cut(nn.Embedding):
    def forward(self, ids):
        return nn.functional.hardshrink(super().forward(ids), 0.5)


class Extra(nn.Embedding):
    def __init__(self, *sizes):
        super().__init__(*sizes)
        self.extra = nn.Parameter(torch.ones(sizes[1]))

    def forward(self, ids):
        return super().forward(ids) + (ids == 5)[..., None] * self.extra


class Last(nn.Embedding):
    def forward(self, ids):
        return super().forward(ids) * (ids != self.num_embeddings - 1)[..., None]


def with_table(cls, **options):
    model = gpt2(**options)
    table = cls(*model.transformer.wte.weight.shape)
    table.weight = model.transformer.wte.weight
    model.transformer.wte = table
    return model


@pytest.mark.parametrize("cls", [Shifted, Cut, Extra, Last])
def test_tables_that_do_more_than_scale_are_refused(cls):
    with pytest.raises(ValueError, match=f"{cls.__name__} does more with its rows"):
        replace_embedding(with_table(cls, vocab_size=1100), small_define)


class Doubled(nn.Embedding):
    embed_scale = 2.0

    def forward(self, ids):
        return super().forward(ids) * 2


class Reads(nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.weight = weight


class Head(nn.Linear):
    pass


def test_what_shares_a_table_is_understood_or_refused():
    plain = gpt2()
    plain.second = Doubled(V, M)
    plain.second.weight = plain.transformer.wte.weight
    with pytest.raises(ValueError, match=r"share one table and scale it differently: \[1.0, 2.0\]"):
        find_tables(plain)
    plain.second = Reads(plain.transformer.wte.weight)
    with pytest.raises(ValueError, match="second, a Reads, shares its weight"):
        find_tables(plain)
    del plain.second
    plain.extra = plain.transformer.wte.weight
    with pytest.raises(ValueError, match=r"\['extra'\] share the weight .* no module reads them"):
        find_tables(plain)


def test_heads_of_their_own_are_listed_once_and_by_kind():
    plain = gpt2(tie_word_embeddings=False)
    plain.second = nn.Embedding(V, M)
    plain.second.weight = plain.lm_head.weight
    first, second = find_tables(plain)
    assert first.heads == () and (second.inputs, second.heads) == (("second",), ("lm_head",))
    plain = gpt2(tie_word_embeddings=False)
    plain.lm_head = Head(M, V)  # who knows what it does
    assert [table.name for table in find_tables(plain)] == ["transformer.wte"]
    with pytest.raises(ValueError, match="table='transformer.ln_f' must be one of"):
        replace_embedding(plain, small_define, table="transformer.ln_f")


class Fixed(GPT2LMHeadModel):
    def __init__(self, config):
        assert config.vocab_size == V
        super().__init__(config)


def test_sizes_that_cannot_be_tried_are_taken_for_vocabularies():
    names = [table.name for table in find_tables(Fixed(gpt2(n_positions=V).config))]
    assert names == ["transformer.wte", "transformer.wpe"]


class Hidden(GPT2LMHeadModel):
    """Reads its table in a place that no module tells of."""

    def __init__(self, config):
        super().__init__(config)
        self.hidden = [self.transformer.wte]

    def forward(self, input_ids, **arguments):
        found = super().forward(input_ids, **arguments)
        found.logits = found.logits + self.hidden[0](input_ids).sum(-1, keepdim=True)
        return found


class Normed(GPT2LMHeadModel):
    """Treats what it thinks is its table in a way that another table would not be treated."""

    def forward(self, input_ids, **arguments):
        found = super().forward(input_ids, **arguments)
        if "define" not in vars(self.config):
            found.logits = found.logits * 2
        return found


def test_the_check_finds_what_is_not_understood():
    with pytest.raises(ValueError, match="Hidden gives a model that does not run .*understood"):
        replace_embedding(Hidden(gpt2().config), small_define)
    plain = Normed(gpt2().config)
    with pytest.raises(ValueError, match="Normed does not compute what it should.*check=False"):
        replace_embedding(plain, small_define)
    assert replace_embedding(plain, small_define, check=False).config.define["tie"]
