"""Small embeddings of every kind, and output layers beside the embeddings they are tied to."""

from functools import partial

from torch import nn

from define import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    BandedEmbedding,
    DeFINE,
    HashEmbedding,
    ProjectedEmbedding,
    RoundedEmbedding,
    Softmax,
    TiedSoftmax,
)

V, M = 60, 16  # vocabulary and width


def adaptive(v, m, padding_idx=None, **options):
    return AdaptiveEmbedding(v, m, padding_idx, cutoffs=[v // 6, v // 2], **options)


def factory(**options):
    return {key: value for key, value in options.items() if key in ("device", "dtype")}


def define(v, m, padding_idx=None, **options):
    options = {"map": 8, "expand_dim": 32, "depth": 2, "max_groups": 4} | options
    return DeFINE(v, m, padding_idx, **options)


def of_adaptive(make, v, m, padding_idx=None, **options):
    map = adaptive(v, 8, div_value=2, **factory(**options))
    return make(v, m, padding_idx, map=map, **options)


def of_table(make, v, m, padding_idx=None, **options):
    return make(v, m, padding_idx, map=nn.Embedding(v, 8, **factory(**options)), **options)


def hashed(v, m, padding_idx=None, **options):
    return HashEmbedding(v, m, padding_idx, num_buckets=max(24, v // 30), **options)


def rounded(v, m, padding_idx=None, **options):
    """Three classes of rows, one of them with nothing but the mean, over two groups of columns."""
    groups = (m + 7) // 8
    bits = ((5,) * groups, (3,) + (1,) * (groups - 1), (0,) * groups)
    sizes = (v - v // 2 - v // 30, v // 2, v // 30)
    options = {"rotate": True, "group_size": 8} | options
    return RoundedEmbedding(v, m, padding_idx, bits=bits, sizes=sizes, num_centres=4, **options)


def banded(v, m, padding_idx=None, **options):
    parts = [
        nn.Embedding(v // 6, m, **options),
        ProjectedEmbedding(v // 3, m, map=4, **options),
        define(v - v // 6 - v // 3, m, **options),
    ]
    return BandedEmbedding(v, m, padding_idx, parts=parts)


OURS = {
    "projected": partial(ProjectedEmbedding, map=8),
    "projected-bias": partial(ProjectedEmbedding, map=8, bias=True),
    "projected-of-adaptive": partial(of_adaptive, ProjectedEmbedding),
    "adaptive": adaptive,
    "adaptive-narrow": partial(adaptive, map_dim=8, div_value=1),
    "adaptive-project-first": partial(adaptive, project_first=True),
    "banded-of-three": banded,
    "define": define,
    "hash": hashed,
    "hash-signs": partial(hashed, importance=False, num_hashes=3),
    "rounded": RoundedEmbedding,
    "rounded-classes": rounded,
    "define-residual": partial(define, skip="residual"),
    "define-shuffle": partial(define, groups=(4, 4), shuffle=True),
    "define-shared": partial(define, shared=True),
    "define-no-reduce": partial(define, reduce=False),
    "define-no-reduce-map": partial(define, reduce_map=False),
    "define-norm": partial(define, norm=nn.LayerNorm, activation=nn.GELU),
    "define-of-adaptive": partial(of_adaptive, define),
    "define-of-table": partial(of_table, define),
}
EMBEDDINGS = {"standard": nn.Embedding} | OURS


def pair(head, embedding=None):
    parts = {"head": head} if embedding is None else {"embedding": embedding, "head": head}
    return nn.ModuleDict(parts)


def tied(make_head, make_embedding=nn.Embedding, width=8, to_map=False):
    """Makes an embedding, and a head tied to it or to its Map."""

    def make(v=V, ignore_index=-100, **like):
        embedding = make_embedding(v, width, **like)
        table = embedding.map if to_map else embedding
        return pair(make_head(table, ignore_index=ignore_index, **like), embedding)

    return make


def plain_softmax(bias):
    def make(v=V, **options):
        return pair(Softmax(8, v, bias=bias, **options))

    return make


def with_options(make_head, **fixed):
    def make(table, **options):
        cut = [table.num_embeddings // 6, table.num_embeddings // 2]
        cutoffs = {} if isinstance(table, AdaptiveEmbedding | BandedEmbedding) else {"cutoffs": cut}
        cutoffs = cutoffs if make_head is AdaptiveSoftmax else {}
        return make_head(table, **cutoffs, **fixed, **options)

    return make


_projected = partial(ProjectedEmbedding, map=4)
_adaptive = partial(with_options, AdaptiveSoftmax)
_biased = {"bias": True, "cluster_bias": True}
HEADS = {
    "softmax": plain_softmax(True),
    "softmax-no-bias": plain_softmax(False),
    "tied": tied(TiedSoftmax),
    "tied-own-projection": tied(with_options(TiedSoftmax, in_features=12, bias=False)),
    "tied-to-the-map": tied(with_options(TiedSoftmax, in_features=12), define, M, to_map=True),
    "tied-to-a-computed-table": tied(TiedSoftmax, _projected),
    "tied-to-define": tied(TiedSoftmax, define, M),
    "tied-to-define-of-adaptive": tied(TiedSoftmax, partial(of_adaptive, define), M),
    "tied-to-adaptive": tied(TiedSoftmax, adaptive, M),
    "tied-to-hashes": tied(TiedSoftmax, hashed),
    "adaptive-of-a-table": tied(_adaptive()),
    "adaptive-of-a-table-biased": tied(_adaptive(in_features=12, **_biased)),
    "adaptive-of-a-computed-table": tied(_adaptive(bias=True), _projected),
    "adaptive-of-define": tied(_adaptive(in_features=12, **_biased), define, M),
    "adaptive-of-define-first-band": tied(_adaptive(first_band_only=True, **_biased), define, M),
    "adaptive-of-define-first-band-own": tied(
        _adaptive(first_band_only=True, in_features=12), partial(of_table, define), M
    ),
    "adaptive-of-define-of-adaptive": tied(_adaptive(), partial(of_adaptive, define), M),
    "adaptive-of-define-of-adaptive-first-band": tied(
        _adaptive(first_band_only=True), partial(of_adaptive, define), M
    ),
    "adaptive": tied(_adaptive(), adaptive, M),
    "adaptive-of-bands": tied(_adaptive(**_biased), banded, M),
    "adaptive-of-bands-first": tied(_adaptive(first_band_only=True, in_features=12), banded, M),
    "tied-to-bands": tied(TiedSoftmax, banded, M),
    "adaptive-own-projection": tied(_adaptive(in_features=12, cluster_bias=True), adaptive, M),
    "adaptive-untied-projections": tied(_adaptive(tie_projections=False), adaptive, M),
    "adaptive-narrow": tied(_adaptive(**_biased), partial(adaptive, map_dim=8, div_value=1), M),
    "adaptive-project-first": tied(
        _adaptive(tie_projections=False, **_biased), partial(adaptive, project_first=True), M
    ),
}
