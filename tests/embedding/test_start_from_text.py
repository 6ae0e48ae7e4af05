"""The start from a text: what the vectors are, and that every embedding can begin with them."""

import pytest
import torch
from contracts.makers import OURS, M, V
from torch import nn
from torch.nn import functional as F

from define.embedding import count_vectors, counts, start_from_text


def text(tokens=3000, words=V, seed=0):
    """Words by Zipf's law, each second one chosen by the one before."""
    draw = torch.Generator().manual_seed(seed)
    ids = torch.multinomial(1 / (torch.arange(words) + 2.0), tokens, True, generator=draw)
    ids[1::2] = (ids[::2] * 7 + ids[1::2] % 2) % words
    return ids


def dense(ids, words, reach):
    """Smoothed positive pointwise mutual information, pair by pair."""
    n = torch.zeros(words, 2 * words, dtype=torch.float64)
    ids = ids.tolist()
    for i, word in enumerate(ids):
        for distance in range(1, reach + 1):
            if i + distance < len(ids):
                n[word, ids[i + distance]] += 1
            if i >= distance:
                n[word, words + ids[i - distance]] += 1
    smoothed = n.sum(0) ** 0.75
    expected = n.sum(1, keepdim=True) * smoothed / smoothed.sum()
    return torch.where(n > 0, (n / expected).log().clamp_min(0), 0.0)


@pytest.mark.parametrize("chunk", [1 << 20, 64, 7])
@pytest.mark.parametrize("reach", [1, 3])
def test_vectors_are_the_singular_vectors_of_what_was_counted(monkeypatch, chunk, reach):
    monkeypatch.setattr(counts, "_CHUNK", chunk)
    ids = text(600, words=20)
    u, s, _ = torch.linalg.svd(dense(ids, 20, reach), full_matrices=False)
    expected = u * s.sqrt()
    expected = F.normalize(expected - expected.mean(0))
    found = F.normalize(count_vectors(ids, 20, 20, reach=reach)).double()
    seen = ids.unique()
    assert_close = torch.testing.assert_close
    assert_close((found @ found.mT)[seen][:, seen], (expected @ expected.mT)[seen][:, seen],
                 atol=1e-4, rtol=0)  # fmt: skip


def test_words_between_the_same_neighbours_are_alike():
    draw = torch.Generator().manual_seed(1)
    ids = text(4000)
    twins = (ids == 5) & (torch.rand(len(ids), generator=draw) < 0.5)
    ids = torch.where(twins, V, ids)  # half of the places of word 5 now have a new word
    likeness = F.cosine_similarity(*count_vectors(ids, V + 1, M)[[5, V]], dim=0)
    others = F.cosine_similarity(count_vectors(ids, V + 1, M)[5], count_vectors(ids, V + 1, M)[:5])
    assert likeness > others.max()


def test_rows_have_deviation_one_also_those_of_words_that_never_occur():
    vectors = count_vectors(text(), V + 3, M)
    torch.testing.assert_close(vectors.square().mean(1), torch.ones(V + 3))
    assert len(vectors[V:].unique(dim=0)) == 3
    vectors = count_vectors(torch.full((9,), 2), V, M)  # no word beside which another one stands
    torch.testing.assert_close(vectors.square().mean(1), torch.ones(V))


def test_a_vocabulary_smaller_than_the_width_and_few_contexts():
    for options in ({}, {"num_contexts": 3}):
        vectors = count_vectors(text(500, words=6), 6, 40, **options)
        assert vectors.shape == (6, 40)
        assert vectors.isfinite().all()


# Without Reduce only the Map is set, and Expand makes something else of it.
LINEAR = {name: make for name, make in OURS.items() if name != "define-no-reduce"}


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_every_embedding_is_nearer_to_the_vectors_than_before(make):
    embedding = make(V, M)
    ids, vectors = text(), count_vectors(text(), V, M)

    def error():
        with torch.no_grad():
            return F.mse_loss(embedding(torch.arange(V)), vectors * embedding.std)

    before = error()
    start_from_text(embedding, ids)
    assert error() < 0.95 * before


def test_a_plain_table_begins_as_the_vectors_at_its_own_scale():
    table = nn.Embedding(V, M, padding_idx=2)
    with torch.no_grad():
        table.weight.mul_(0.1)
        std = table.weight.std()
    start_from_text(table, text())
    kept = torch.arange(V) != 2
    torch.testing.assert_close(table.weight[kept], count_vectors(text(), V, M)[kept] * std)
    assert (table.weight[2] == 0).all()


@pytest.mark.parametrize(
    ("ids", "sizes", "message"),
    [
        (torch.tensor([1]), (V, M), "at least 2"),
        (torch.tensor([1, V]), (V, M), "num_embeddings=60"),
        (torch.tensor([1, -1]), (V, M), "-1"),
        (torch.tensor([1, 2]), (V, 0), "embedding_dim=0"),
        (torch.ones(2, 3).long(), (V, M), r"ids \(2, 3\) must be one text"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_bad_input(ids, sizes, message):
    with pytest.raises(ValueError, match=message):
        count_vectors(ids, *sizes)
