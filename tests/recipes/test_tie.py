"""What the output of a recipe reads: the Map, or what the embedding computes."""

import pytest
import torch
from test_start import Sized, V
from torch.testing import assert_close

from define import BandedEmbedding, DeFINE, ProjectedEmbedding, recipes
from define.recipes.settings import recipe_parser

CUTOFFS = (500, 2000)
SMALL = {
    "pydocs": {},
    "wikitext_2": {"cutoffs": CUTOFFS},
    "penn_treebank_small": {"cutoffs": CUTOFFS, "narrow": True, "output_size": 40},
    "wikitext_2_transformer_xl": {"cutoffs": CUTOFFS, "num_layers": 1},
    "wikitext_103_lstm": {"cutoffs": CUTOFFS, "num_layers": 1, "map_dim": 128, "hidden_size": 64},
    "multi30k": {"num_layers": 1},
}


def unit(num_embeddings, embedding_dim):
    return DeFINE(num_embeddings, embedding_dim, map=16, expand_dim=64, depth=2, max_groups=4)


def made(name, tie):
    options = {"embedding": unit, "data": Sized(), **SMALL[name], "tie": tie}
    if name == "wikitext_103_lstm":
        del options["embedding"]  # its own: DeFINE on bands
    return getattr(recipes, name)(**options).model.eval()


@torch.no_grad()
@pytest.mark.parametrize("name", SMALL)
def test_the_tied_rows_are_those_that_the_embedding_computes(name):
    model = made(name, "embedding")
    hidden = torch.randn(5, model.head.in_features)
    rows, read = model.embedding.weight, model.head.projection(hidden)
    start = model.head.cutoffs[0] if "cutoffs" in SMALL[name] else V
    found = model.head.log_prob(hidden)[:, :start]
    if start == V:
        assert_close(found, (read @ rows.T + model.head.bias).log_softmax(-1))
    else:  # the first band's words beside a row for each further band
        first = torch.cat([rows[:start], model.head.cluster_weight])
        assert_close(found, (read @ first.T).log_softmax(-1)[:, :start])
    # The Map is the output's table otherwise.
    assert made(name, True if name == "multi30k" else "map").head.tied.module is not None
    narrow = made(name, "map").head
    assert narrow.tied.module.embedding_dim == 16 or name == "wikitext_103_lstm"


@torch.no_grad()
@pytest.mark.parametrize("name", ["wikitext_2", "wikitext_103_lstm", "wikitext_2_transformer_xl"])
def test_the_first_band_alone(name):
    model = made(name, "first-band")
    hidden = torch.randn(5, model.head.in_features)
    first = torch.cat([model.embedding.weight[: CUTOFFS[0]], model.head.cluster_weight])
    chances = (model.head.projection(hidden) @ first.T).log_softmax(-1)
    found = model.head.log_prob(hidden)
    assert_close(found[:, : CUTOFFS[0]], chances[:, : CUTOFFS[0]])
    assert_close(found.exp().sum(-1), torch.ones(5))
    tail = found[:, CUTOFFS[0] : CUTOFFS[1]]
    assert_close(tail.logsumexp(-1), chances[:, CUTOFFS[0]])


def test_what_has_no_bands_or_no_map(capsys):
    with pytest.raises(ValueError, match="cutoffs=None must be given"):
        recipes.pydocs(Sized(), embedding=unit, tie="first-band")
    with pytest.raises(ValueError, match="needs an embedding with a Map"):
        recipes.pydocs(Sized(), embedding=torch.nn.Embedding, cutoffs=[500], tie="first-band")
    with pytest.raises(SystemExit):
        recipe_parser("pydocs").parse_args(["--tie", "row"])


def test_a_map_of_one_band_is_cut_where_the_recipe_says():
    def embedding(size, width):
        map = BandedEmbedding(size, 16, parts=[torch.nn.Embedding(size, 16)])
        return ProjectedEmbedding(size, width, map=map)

    for tie in ("map", "embedding", "first-band"):
        model = recipes.pydocs(Sized(), embedding=embedding, cutoffs=CUTOFFS, tie=tie).model
        assert model.head.cutoffs == CUTOFFS


@pytest.mark.parametrize("given", ["embedding", "map", "true", "false"])
def test_translation_takes_names_and_what_it_took_before(given, tmp_path):
    settings = recipe_parser("wmt14").parse_args(["--data.path", str(tmp_path), "--tie", given])
    assert str(settings.tie).lower() == given
