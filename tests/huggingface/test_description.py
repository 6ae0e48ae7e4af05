import json
from functools import partial

import pytest
import torch
from torch import nn

from define import AdaptiveEmbedding, DeFINE, Embedding, ProjectedEmbedding
from define.huggingface.description import build, describe

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
    define(map=adaptive(8, padding_idx=1, div_value=2)),
    define(map=ProjectedEmbedding(V, 8, map=4), padding_idx=4),
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


class _Special(Embedding):
    def rows(self, ids):
        return ids[:, None].float()

    def reset_parameters(self):
        pass


def test_what_cannot_be_described():
    with pytest.raises(TypeError, match="_Special must be one of"):
        describe(_Special(V, 1))
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
    with pytest.raises(ValueError, match="'functional' must be a module"):
        build(description)
