"""Every recipe starts with a uniform guess."""

import math
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE, HashEmbedding, ProjectedEmbedding, recipes
from define.recipes.settings import RECIPES

V = 10_000
CUTOFFS = {"cutoffs": (500, 2000, 6000)}
# Recipes as they are but for depth, and for what needs a larger vocabulary.
SMALLER = {
    "penn-treebank": {"hidden_size": 400},
    "penn-treebank-fast": {"hidden_size": 400},
    "penn-treebank-finetune": {"hidden_size": 400, "start_from": "somewhere"},
    "wikitext-2": CUTOFFS,
    "wikitext-2-transformer-xl": CUTOFFS,
    "wikitext-103": {"num_layers": 4, **CUTOFFS},
    "wikipedia-25m": {"num_layers": 4, **CUTOFFS},
    "wikitext-103-lstm": {"num_layers": 2, **CUTOFFS},
    "wmt14": {"num_layers": 3},
}


def adaptive(num_embeddings, embedding_dim):
    return AdaptiveEmbedding(num_embeddings, embedding_dim, **CUTOFFS)


for small in ("wikipedia-lstm-small", "wikipedia-transformer-xl-small"):
    SMALLER[small] = {"embedding": adaptive, **CUTOFFS}
EMBEDDINGS = {
    "default": None,
    "standard": nn.Embedding,
    "projected": lambda v, m: ProjectedEmbedding(v, m, map=48),
    "narrow DeFINE": lambda v, m: DeFINE(v, m, map=32, expand_dim=128, depth=3, max_groups=8),
    "hash": lambda v, m: HashEmbedding(v, m, num_buckets=2000),
}


@dataclass(frozen=True)
class Sized:
    """Stands for data of which a recipe needs the size of the vocabulary alone."""

    vocabulary: str = "given"
    max_length: int = 64

    def open(self):
        return type("Corpus", (), {"vocabulary": range(V), "tokenizer": range(V)})


@pytest.mark.parametrize("embedding", EMBEDDINGS)
@pytest.mark.parametrize("name", RECIPES)
def test_the_first_loss_is_that_of_a_uniform_guess(name, embedding):
    options = dict(SMALLER.get(name, {}))
    if EMBEDDINGS[embedding] is not None:
        options["embedding"] = EMBEDDINGS[embedding]
    model = getattr(recipes, name.replace("-", "_"))(Sized(), **options).model.eval()
    # As frequent as words are: an adaptive softmax gives rare ones less from the first step on.
    chances = 1 / torch.arange(1.0, V + 1)
    x, y = torch.multinomial(chances, 2 * 8 * 24, replacement=True).view(2, 8, 24).clamp(min=2)
    with torch.no_grad():
        if name in ("multi30k", "wmt14"):
            hidden, loss = model.hidden(x, y), model(x, y).mean()
        else:
            hidden, loss = model.hidden(x)[0], model(x, y)[0].mean()
        uniform = model.head(torch.zeros_like(hidden), y).mean().item()
    if not hasattr(model.head, "cutoffs"):
        assert uniform == pytest.approx(math.log(V))
    assert loss.item() == pytest.approx(uniform, rel=0.1)
