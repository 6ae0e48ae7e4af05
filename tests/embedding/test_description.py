import copy
import io
import json
import pickle
from functools import partial

import pytest
import torch
from torch import nn

from define import (
    AdaptiveEmbedding,
    BandedEmbedding,
    DeFINE,
    Embedding,
    HashEmbedding,
    ProjectedEmbedding,
)
from define.embedding.description import build, describe

V, M = 60, 24
adaptive = partial(AdaptiveEmbedding, V, cutoffs=[10, 30])
define = partial(DeFINE, V, M, expand_dim=32, depth=2, max_groups=2)
EMBEDDINGS = [
    nn.Embedding(V, M, padding_idx=0, sparse=True),
    ProjectedEmbedding(V, M, 3, map=8, bias=True, std=0.1),
    ProjectedEmbedding(V, M, map=nn.Embedding(V, 8, padding_idx=2)),
    adaptive(M),
    adaptive(M, map_dim=18, div_value=1.5, project_first=True, sparse=True),
    adaptive(M, map_dim=9, div_value=1.7),
    define(map=8, dropout=0.25, std=0.5),
    define(map=8, activation=partial(nn.GELU, approximate="tanh"), norm=nn.LayerNorm),
    define(map=8, activation=nn.SiLU, norm=partial(nn.LayerNorm, eps=1e-3, bias=False)),
    define(map=8, norm=partial(nn.RMSNorm, eps=1e-4), activation=nn.ReLU),
    define(map=8, skip="residual", shuffle=True, shared=True),
    define(map=8, skip="concatenation", reduce_map=False),
    define(map=8, skip="none", reduce=False, groups=(2, 1)),
    define(map=8, skip="residual", reduce=False, groups=(2, 2)),
    define(map=8, reduce=False, groups=(1,), depth=1),
    define(map=8, activation=lambda: nn.LeakyReLU(0.3), norm=lambda n: nn.LayerNorm(n, eps=0.1)),
    define(map=adaptive(8, padding_idx=1, div_value=2)),
    define(map=ProjectedEmbedding(V, 8, map=4), padding_idx=4),
    define(map=HashEmbedding(V, 8, num_buckets=7)),
    HashEmbedding(V, M, 2, num_buckets=9, num_hashes=3, importance=False, seed=4),
]


@pytest.mark.parametrize("embedding", EMBEDDINGS, ids=lambda embedding: type(embedding).__name__)
def test_round_trip_through_json(embedding):
    description = json.loads(json.dumps(describe(embedding)))
    rebuilt = build(description)
    assert describe(rebuilt) == description
    rebuilt.load_state_dict(embedding.state_dict())
    assert torch.equal(rebuilt.eval().weight, embedding.eval().weight)
    assert rebuilt.padding_idx == embedding.padding_idx
    for name in ("std", "sparse"):
        assert getattr(rebuilt, name, None) == getattr(embedding, name, None)


def saved_whole(module):
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


@pytest.mark.parametrize(
    "way", [copy.deepcopy, saved_whole, lambda m: pickle.loads(pickle.dumps(m))]
)
def test_lambdas_are_copied_and_pickled(way):
    embedding = define(map=8, activation=lambda: nn.LeakyReLU(0.3), norm=lambda n: nn.LayerNorm(n))
    for made in (embedding, BandedEmbedding(V, M, parts=[embedding])):
        other = way(made)
        assert describe(other) == describe(made)
        assert torch.equal(other.weight, made.weight)


class Doubled(nn.Module):
    def forward(self, x):
        return 2 * x


def test_a_lambda_that_cannot_be_pickled_is_named_with_a_way_out():
    embedding = define(map=8, activation=lambda: Doubled())
    assert torch.equal(copy.deepcopy(embedding).weight, embedding.weight)
    with pytest.raises(TypeError, match=r"<lambda>.* cannot be pickled .*: give a class"):
        pickle.dumps(embedding)
    embedding = define(map=8, activation=Doubled)
    assert torch.equal(pickle.loads(pickle.dumps(embedding)).weight, embedding.weight)


class Constant(Embedding):
    """Not of this package; known by its name all the same."""

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, *, start=1.0, device=None):
        super().__init__(num_embeddings, embedding_dim, padding_idx)
        self.start = start
        self.value = nn.Parameter(torch.full((embedding_dim,), start, device=device))

    def rows(self, ids):
        return self.value.expand(len(ids), -1)

    def reset_parameters(self):
        nn.init.constant_(self.value, self.start)


def test_an_embedding_of_another_module_is_rebuilt_by_its_name():
    description = json.loads(json.dumps(describe(define(map=Constant(V, 8, start=0.5)))))
    assert torch.equal(build(description).map.weight, torch.full((V, 8), 0.5))


class Forgetful(Constant):
    """Does not keep its argument."""

    def __init__(self, num_embeddings, embedding_dim, padding_idx=None, *, width=1, device=None):
        super().__init__(num_embeddings, embedding_dim, padding_idx, device=device)


def test_configuration_files_written_before():
    """Those of embeddings that had no class of arguments yet: groups without depth."""
    description = {
        "class": "DeFINE", "num_embeddings": V, "embedding_dim": M, "padding_idx": None,
        "std": 0.5, "map": {
            "class": "AdaptiveEmbedding", "num_embeddings": V, "embedding_dim": 8,
            "padding_idx": 1, "std": 1.0, "cutoffs": [10, 30], "map_dim": 8, "div_value": 2.0,
            "project_first": False, "sparse": False,
        },
        "expand_dim": 32, "groups": [2, 1], "skip": "mix", "shuffle": False, "shared": False,
        "reduce": True, "reduce_map": True,
        "activation": {"class": "GELU", "approximate": "none"}, "dropout": 0.25,
        "norm": {"class": "LayerNorm", "eps": 1e-05, "elementwise_affine": True, "bias": True},
    }  # fmt: skip
    embedding = build(description)
    assert embedding.expand.groups == (2, 1) and embedding.map.widths == (8, 4, 2)
    assert isinstance(embedding.expand.endings[0][0], nn.LayerNorm)
    assert build(describe(embedding)).state_dict().keys() == embedding.state_dict().keys()


def test_what_cannot_be_described():
    with pytest.raises(TypeError, match="EmbeddingBag must be torch.nn.Embedding or"):
        describe(nn.EmbeddingBag(V, M))
    with pytest.raises(TypeError, match="Forgetful keeps no attribute 'width'"):
        describe(Forgetful(V, M))
    changed = define(map=8)
    changed.expand.endings[1] = nn.Identity()
    with pytest.raises(TypeError, match="DeFINE cannot be rebuilt"):
        describe(changed)

    class Own(nn.Module):
        def forward(self, x):
            return x

    with pytest.raises(TypeError, match="Own must be a module of torch.nn"):
        describe(define(map=8, activation=Own))


def test_descriptions_that_name_other_classes():
    with pytest.raises(ValueError, match="'os.system' must be one of"):
        build({"class": "os.system"})
    description = describe(define(map=8))
    description["activation"] = {"class": "functional"}
    with pytest.raises(ValueError, match="'functional' must be an embedding or a module"):
        build(description)
