"""A start for embeddings from the training text: which words stand beside which."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding
from define.embedding.family import approximate
from define.embedding.tables import table_size
from define.embedding.target import check_target

__all__ = ["count_vectors", "start_from_text"]

_CHUNK = 1 << 20  # tokens whose pairs are sorted at a time
_SMOOTHING = 0.75  # power of the counts of contexts (Levy et al. 2015, Sec. 3.2)


def start_from_text(embedding: nn.Module, ids: Int[Tensor, " tokens"], reach: int = 3) -> None:
    """Lets an embedding start as the best fit of :func:`count_vectors` of its training text.

    Rows have the deviation `std` that the embedding has (that of its table, for
    `torch.nn.Embedding`). It costs seconds where an epoch costs minutes.

    Args:
        embedding: `torch.nn.Embedding` or any embedding with `approximate`, drawn already.
        ids: The training text, or a part of it.
        reach: How far neighbours are counted.

    Raises:
        ValueError: If the text has fewer than two tokens, or an id outside of the vocabulary, or
            the embedding's deviation is 0.
    """
    size, width = table_size(embedding)
    like = next(embedding.parameters())
    plain = isinstance(embedding, nn.Embedding)
    std = float(embedding.weight.detach().std() if plain else cast(Embedding, embedding).std)
    if not std > 0:
        raise ValueError(f"{std=} of the embedding must be above 0: rows get it from the text.")
    vectors = count_vectors(ids, size, width, reach=reach).to(like) * std
    with torch.no_grad():
        approximate(embedding, check_target(vectors, embedding, None))


@torch.no_grad()
def count_vectors(
    ids: Int[Tensor, " tokens"],
    num_embeddings: int,
    embedding_dim: int,
    *,
    reach: int = 3,
    num_contexts: int = 10_000,
    seed: int = 0,
) -> Float[Tensor, "num_embeddings embedding_dim"]:
    r"""Vectors of words by their neighbours in a text, (V, m), every row of deviation 1.

    .. math::
        U \Sigma V^\top \approx
        \max\Big(\log \frac{n_{wc} \sum_c n_c^{0.75}}{n_w \, n_c^{0.75}}, 0\Big)

    where n_wc says how often context c stands up to `reach` places from word w; what stands before
    and what stands behind are different contexts. Vectors are rows of U Σ^½, turned at random so
    that all columns count alike. Words without counted neighbours are drawn at random, and so are
    all if the text has one word.

    Reference:
        | Neural Word Embedding as Implicit Matrix Factorization (Levy & Goldberg 2014), Sec. 3.3
        | Finding Structure with Randomness (Halko et al. 2011), Alg. 4.4 (the factorization)

    Args:
        ids: The text.
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m.
        reach: How far neighbours are counted.
        num_contexts: Only the words with the lowest ids are contexts: the most frequent ones of a
            vocabulary that is sorted.
        seed: Of the factorization and of the turn.

    Raises:
        ValueError: If the text is not of one dimension or has fewer than two tokens, an id is
            outside of the vocabulary, or a size is below 1.
    """
    if min(num_embeddings, embedding_dim, reach, num_contexts) < 1:
        raise ValueError(
            f"{num_embeddings=}, {embedding_dim=}, {reach=} and {num_contexts=} must be at least 1."
        )
    ids = torch.as_tensor(ids).cpu()
    if ids.dim() != 1:
        raise ValueError(f"ids {tuple(ids.shape)} must be one text: of one dimension.")
    if len(ids) < 2:
        raise ValueError(f"A text of {len(ids)} tokens has no neighbours: it must have at least 2.")
    if ids.min() < 0 or ids.max() >= num_embeddings:
        raise ValueError(
            f"ids are from {int(ids.min())} to {int(ids.max())}: not within {num_embeddings=}."
        )
    contexts = min(num_contexts, num_embeddings)
    pairs, counts = _count(ids, contexts, reach)
    words, columns = pairs // (2 * contexts), pairs % (2 * contexts)
    of_word = torch.zeros(num_embeddings, dtype=torch.float64).index_add_(0, words, counts)
    of_context = torch.zeros(2 * contexts, dtype=torch.float64).index_add_(0, columns, counts)
    smoothed = of_context**_SMOOTHING
    values = (counts * smoothed.sum() / (of_word[words] * smoothed[columns])).log()
    kept = values > 0
    matrix = _Sparse(words[kept], columns[kept], values[kept].float(), num_embeddings, 2 * contexts)

    draw = torch.Generator().manual_seed(seed)
    rank = min(embedding_dim + 20, num_embeddings, 2 * contexts)
    transposed = matrix.mT
    basis = torch.linalg.qr(matrix @ torch.randn(2 * contexts, rank, generator=draw))[0]
    for _ in range(2):  # powers: the spectrum falls slowly
        basis = torch.linalg.qr(transposed @ basis)[0]
        basis = torch.linalg.qr(matrix @ basis)[0]
    _, values, vectors = torch.linalg.svd(transposed @ basis, full_matrices=False)
    rows = (basis @ vectors.mT * values.sqrt())[:, :embedding_dim]
    rows = F.pad(rows, (0, embedding_dim - rows.shape[1]))  # a vocabulary smaller than m
    rows = rows @ torch.linalg.qr(torch.randn(embedding_dim, embedding_dim, generator=draw))[0]
    rows = rows - rows.mean(0)
    unseen = (of_word == 0) | (rows == 0).all(1)
    rows[unseen] = torch.randn(int(unseen.sum()), embedding_dim, generator=draw)
    return rows / rows.square().mean(1, keepdim=True).sqrt().clamp_min(1e-12)


def _count(ids: Tensor, contexts: int, reach: int) -> tuple[Tensor, Tensor]:
    """Pairs ``word * 2 contexts + context`` that occur, ascending, and how often."""
    found: list[tuple[Tensor, Tensor]] = []
    waiting = 0
    for start in range(0, len(ids) - 1, _CHUNK):
        window = ids[start : start + _CHUNK + reach].long()
        for distance in range(1, min(reach, len(window) - 1) + 1):
            left, right = window[:-distance][:_CHUNK], window[distance:][:_CHUNK]
            for word, context, side in ((left, right, 0), (right, left, contexts)):
                counted = context < contexts
                pairs = word[counted] * (2 * contexts) + context[counted] + side
                pairs, counts = pairs.unique(return_counts=True)
                found.append((pairs, counts.double()))
                waiting += len(pairs)
        if waiting > 2 * len(found[0][0]) + 8 * _CHUNK:  # memory stays near what is kept
            found, waiting = [_merge(found)], 0
    return _merge(found)


def _merge(found: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    pairs, places = torch.cat([pairs for pairs, _ in found]).unique(return_inverse=True)
    counts = torch.cat([counts for _, counts in found])
    return pairs, counts.new_zeros(len(pairs)).index_add_(0, places, counts)


class _Sparse:
    """A sparse matrix that multiplies dense ones; `mT` too is laid out by rows."""

    def __init__(
        self, rows: Tensor, columns: Tensor, values: Tensor, height: int, width: int
    ) -> None:
        self._entries = rows, columns, values, height, width
        self._columns, self._values = columns, values
        self._starts = F.pad(rows.bincount(minlength=height).cumsum(0), (1, 0))[:-1]

    @property
    def mT(self) -> "_Sparse":  # noqa: N802
        rows, columns, values, height, width = self._entries
        order = columns.argsort(stable=True)
        return _Sparse(columns[order], rows[order], values[order], width, height)

    def __matmul__(self, dense: Tensor) -> Tensor:
        return F.embedding_bag(
            self._columns, dense, self._starts, mode="sum", per_sample_weights=self._values
        )
