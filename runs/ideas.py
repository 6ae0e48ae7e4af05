"""Ways to let rare words share what they have in common, beside a narrow row of their own.

Most are adaptive input whose narrow bands read more than a row of their own: the table of such a
band is ``[own rows, features]``, and one matrix brings both to the width of the embedding. The
output is tied to these tables. What they gained is in RESULTS; they are no part of the package.
"""

from abc import abstractmethod
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from define.embedding import AdaptiveEmbedding, Band, Embedding
from define.embedding.target import Target, balance, factorize

__all__ = [
    "BandUnits",
    "Classes",
    "Coded",
    "Neighbours",
    "Shared",
    "SlowAdaptive",
    "Spelled",
    "clusters",
]


class Shared(Embedding):
    """Adaptive input with features beside the rows of all bands but the first.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output and of the first band.
        cutoffs: First id of each band but the first.
        width: Width of the own rows of the second band; each further one has a sixth of it.
        features_dim: Width of the features.
        std: Standard deviation of tables and output at initialization.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        cutoffs: Sequence[int],
        width: int,
        features_dim: int,
        std: float,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, std=std)
        self.cutoffs, self.width, self.features_dim = tuple(cutoffs), width, features_dim
        self.ranges = list(pairwise((0, *cutoffs, num_embeddings)))
        own = [max(1, width // 6**b) for b in range(len(cutoffs))]
        self.tables = nn.ParameterList(
            torch.empty(stop - start, columns)
            for (start, stop), columns in zip(self.ranges, (embedding_dim, *own), strict=True)
        )
        self.projections = nn.ParameterList(
            torch.empty(embedding_dim, columns + features_dim) for columns in own
        )
        self._made: tuple[Band, ...] | None = None

    def reset_parameters(self) -> None:
        for table in self.tables:
            nn.init.normal_(table, std=self.std)
        for projection in self.projections:
            nn.init.normal_(projection, std=projection.shape[1] ** -0.5)

    @abstractmethod
    def features(self, band: int, own: Tensor) -> Tensor:
        """Features (rows, features_dim) of a band's words, from their own rows or not."""

    def unfold(self, band: int, wanted: Tensor) -> None:
        """Sets the features of a band near to `wanted` (rows, features_dim), if it can."""

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets own rows to what features leave over; those start as principal coordinates."""
        for b, ((start, stop), table) in enumerate(zip(self.ranges, self.tables, strict=True)):
            rows = target.table[start:stop]
            if b == 0:
                table.copy_(rows)
                continue
            projection, ones = self.projections[b - 1], rows.new_ones(len(rows))
            left, right, _ = factorize(Target(rows, ones), self.features_dim, False)
            scale = balance(left, ones, self.std)
            self.unfold(b, left / scale)
            made = self.features(b, table)
            fitted = torch.linalg.lstsq(made, rows).solution.mT
            projection[:, table.shape[1] :] = fitted
            left, right, _ = factorize(Target(rows - made @ fitted.mT, ones), table.shape[1], False)
            scale = balance(left, ones, self.std)
            table.copy_(left / scale)
            projection[:, : table.shape[1]] = right * scale

    def bands(self) -> tuple[Band, ...]:
        # Made in `rows`, once a step for input and output together.
        return self._make() if self._made is None else self._made

    def _make(self) -> tuple[Band, ...]:
        first, *narrow = zip(self.ranges, self.tables, strict=True)
        made = [Band(*first[0], first[1], None)]
        for b, ((ids, own), projection) in enumerate(zip(narrow, self.projections, strict=True)):
            table = torch.cat([own, self.features(b + 1, own)], -1)
            made.append(Band(*ids, table, projection))
        return tuple(made)

    def rows(self, ids: Tensor) -> Tensor:
        self._made = self._make()
        stops = torch.searchsorted(ids, torch.tensor(self.cutoffs)).tolist()
        rows = []
        for band, (start, stop) in zip(self._made, pairwise((0, *stops, len(ids))), strict=True):
            part = F.embedding(ids[start:stop] - band.start, band.table)
            rows.append(part if band.projection is None else F.linear(part, band.projection))
        return torch.cat(rows)


class Spelled(Shared):
    """Rare words add up vectors of the pieces of their spelling.

    The pieces are the `num_pieces` runs of 2 to 4 letters, the ends of a word counted as letters,
    that most rare words have; their sum is divided by the root of their number.

    Reference:
        | Enriching Word Vectors with Subword Information (Bojanowski et al. 2017), Sec. 3.2

    Args:
        words: The vocabulary.
        embedding_dim: See `Shared`; so for what follows.
        cutoffs: First id of each band but the first.
        width: Width of the own rows of the second band.
        features_dim: Width of the pieces' vectors.
        num_pieces: Number of pieces.
        std: Standard deviation at initialization.
    """

    def __init__(
        self,
        words: Sequence[str],
        embedding_dim: int,
        *,
        cutoffs: Sequence[int],
        width: int,
        features_dim: int = 24,
        num_pieces: int = 1500,
        std: float,
    ) -> None:
        super().__init__(
            len(words),
            embedding_dim,
            cutoffs=cutoffs,
            width=width,
            features_dim=features_dim,
            std=std,
        )
        pieces = [_pieces(word) for word in words]
        counts = Counter(piece for of_word in pieces[cutoffs[0] :] for piece in of_word)
        kept = {piece: i for i, (piece, _) in enumerate(counts.most_common(num_pieces))}
        ids = [sorted(kept[piece] for piece in of_word if piece in kept) for of_word in pieces]
        self.bags = [
            (
                torch.tensor([i for word in ids[start:stop] for i in word]),
                torch.tensor([0, *map(len, ids[start : stop - 1])]).cumsum(0),
                torch.tensor([len(word) ** -0.5 for word in ids[start:stop] for _ in word]),
            )
            for start, stop in self.ranges
        ]
        self.pieces = nn.EmbeddingBag(num_pieces, features_dim, mode="sum")
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.pieces.weight, std=self.std)

    def unfold(self, band: int, wanted: Tensor) -> None:
        if band == 1:  # pieces are all bands': the second band's alone would be few words
            self._wanted = []
        self._wanted.append(wanted)
        if band < len(self.ranges) - 1:
            return
        bags = torch.zeros(sum(map(len, self._wanted)), self.pieces.num_embeddings)
        row = 0
        for (ids, offsets, weights), part in zip(self.bags[1:], self._wanted, strict=True):
            counts = torch.diff(offsets, append=torch.tensor([len(ids)]))
            rows = torch.arange(row, row + len(part)).repeat_interleave(counts)
            bags[rows, ids] = weights
            row += len(part)
        gram = bags.mT @ bags + torch.eye(bags.shape[1])
        self.pieces.weight.copy_(torch.linalg.solve(gram, bags.mT @ torch.cat(self._wanted)))

    def features(self, band: int, own: Tensor) -> Tensor:
        ids, offsets, weights = self.bags[band]
        return self.pieces(ids, offsets, per_sample_weights=weights)


def _pieces(word: str) -> set[str]:
    text = f"^{word}$"
    return {text[i : i + n] for n in (2, 3, 4) for i in range(len(text) - n + 1)}


class Classes(Shared):
    """Rare words share a vector with the words of their class.

    Args:
        assigned: Class of each word, (V,).
        embedding_dim: See `Shared`; so for what follows.
        cutoffs: First id of each band but the first.
        width: Width of the own rows of the second band.
        features_dim: Width of the classes' vectors.
        std: Standard deviation at initialization.
    """

    def __init__(
        self,
        assigned: Tensor,
        embedding_dim: int,
        *,
        cutoffs: Sequence[int],
        width: int,
        features_dim: int = 48,
        std: float,
    ) -> None:
        super().__init__(
            len(assigned),
            embedding_dim,
            cutoffs=cutoffs,
            width=width,
            features_dim=features_dim,
            std=std,
        )
        self.assigned = assigned
        self.classes = nn.Embedding(int(assigned.max()) + 1, features_dim)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        nn.init.normal_(self.classes.weight, std=self.std)

    def unfold(self, band: int, wanted: Tensor) -> None:
        assigned = self.assigned[slice(*self.ranges[band])]
        counts = assigned.bincount(minlength=len(self.classes.weight)).clamp_min(1)[:, None]
        sums = torch.zeros_like(self.classes.weight).index_add(0, assigned, wanted)
        seen = assigned.unique()  # a class of two bands keeps the rarer words' mean
        self.classes.weight[seen] = (sums / counts)[seen]

    def features(self, band: int, own: Tensor) -> Tensor:
        return self.classes(self.assigned[slice(*self.ranges[band])])


class BandUnits(Shared):
    """Each narrow band has a unit of its own, whose output the softmax reads too.

    Tied to narrow tables, log-probabilities of a band have their rank; features that are computed
    without being linear in the rows lift it.

    Args:
        num_embeddings: See `Shared`; so for what follows.
        embedding_dim: Width m of the output and of the first band.
        cutoffs: First id of each band but the first.
        width: Width of the own rows of the second band.
        features_dim: Width of the unit, or number of prototypes.
        std: Standard deviation at initialization.
        mixture: Whether rows are soft mixtures of prototypes instead of GELU's features.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        cutoffs: Sequence[int],
        width: int,
        features_dim: int = 48,
        std: float,
        mixture: bool = False,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            cutoffs=cutoffs,
            width=width,
            features_dim=features_dim,
            std=std,
        )
        self.mixture = mixture
        self.units = nn.ModuleList(
            nn.Linear(table.shape[1], features_dim) for table in list(self.tables)[1:]
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        for unit in self.units:
            linear = cast(nn.Linear, unit)
            nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
            nn.init.zeros_(linear.bias)

    def unit_parameters(self) -> list[nn.Parameter]:
        return list(self.units.parameters())

    def features(self, band: int, own: Tensor) -> Tensor:
        x = self.units[band - 1](own / self.std)
        if self.mixture:
            return (2 * x).softmax(-1) * self.std * x.shape[-1] ** 0.5
        return F.gelu(x) * self.std


class Coded(Embedding):
    r"""Rows are narrow rows of their own, projected, and what a few codes of each word name.

    .. math:: e_o(w) = P z_w + [B^1_{c^1_w}, ..., B^J_{c^J_w}]

    Codes come from the start, by product quantization of what P z leaves over, and stay; z, P and
    the books B are trained. Words that have a code in common share what it names.

    Reference:
        | Product Quantization for Nearest Neighbor Search (Jégou et al. 2011), Sec. II
        | Compressing Word Embeddings via Deep Compositional Code Learning (Shu & Nakayama 2018)

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        width: Width of the own rows.
        num_books: Number J of books, which divides m.
        num_codes: Vectors in each.
        std: Standard deviation of rows at initialization.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        *,
        width: int,
        num_books: int,
        num_codes: int,
        std: float,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, std=std)
        # By their bits: eight codes of 16 count as one number of float32.
        self.stored = num_embeddings * num_books * (num_codes - 1).bit_length() // 32
        self.own = nn.Parameter(torch.empty(num_embeddings, width))
        self.projection = nn.Parameter(torch.empty(embedding_dim, width))
        self.books = nn.Parameter(torch.empty(num_books, num_codes, embedding_dim // num_books))
        self.codes: Tensor
        codes = torch.randint(num_codes, (num_embeddings, num_books))
        self.register_buffer("codes", codes + torch.arange(num_books) * num_codes)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.own, std=self.std)
        nn.init.normal_(self.projection, std=(2 * self.own.shape[1]) ** -0.5)
        nn.init.normal_(self.books, std=self.std * 0.5**0.5)

    def unit_parameters(self) -> list[nn.Parameter]:
        return [self.books]

    def rows(self, ids: Tensor) -> Tensor:
        named = F.embedding(self.codes[ids], self.books.flatten(0, 1)).flatten(1)
        return torch.addmm(named, F.embedding(ids, self.own), self.projection.mT)

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        left, right, _ = factorize(target, self.own.shape[1], False)
        scale = balance(left, target.weights, self.std)
        self.own.copy_(left / scale)
        self.projection.copy_(right * scale)
        rest = target.table - left @ right.mT
        number = self.books.shape[1]
        for j, part in enumerate(rest.chunk(len(self.books), 1)):
            codes, self.books[j] = _means(part, number)
            self.codes[:, j] = codes + j * number


class Neighbours(Embedding):
    """Rows of rare words are narrow rows of their own and a sum of frequent words' rows.

    The frequent words are those that stand beside the same words, found at the start one after the
    other in what the ones before leave over; their rows are read as they are trained.

    Args:
        frequent: The table of the frequent words.
        num_embeddings: Number of rare words.
        embedding_dim: Width m of the output.
        width: Width of the own rows.
        number: How many frequent words are added up; id and weight count as parameters.
        std: Standard deviation of rows at initialization.
    """

    def __init__(
        self,
        frequent: nn.Embedding,
        num_embeddings: int,
        embedding_dim: int,
        *,
        width: int,
        number: int = 4,
        std: float,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, std=std)
        self.frequent = frequent
        self.own = nn.Parameter(torch.empty(num_embeddings, width))
        self.projection = nn.Parameter(torch.empty(embedding_dim, width))
        self.shares = nn.Parameter(torch.empty(num_embeddings, number))
        self.chosen: Tensor
        drawn = torch.randint(frequent.num_embeddings, (num_embeddings, number))
        self.register_buffer("chosen", drawn)
        self.stored = drawn.numel()
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.own, std=self.std)
        nn.init.normal_(self.projection, std=self.own.shape[1] ** -0.5)
        nn.init.zeros_(self.shares)

    def rows(self, ids: Tensor) -> Tensor:
        read = self.frequent(self.chosen[ids])  # (rows, number, m)
        added = (F.embedding(ids, self.shares)[:, None] @ read).squeeze(1)
        return torch.addmm(added, F.embedding(ids, self.own), self.projection.mT)

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        rest, table = target.table.clone(), self.frequent.weight
        directions = F.normalize(table, dim=1)
        for j in range(self.shares.shape[1]):
            best = (rest @ directions.mT).max(1)
            self.chosen[:, j] = best.indices
            read = table[self.chosen[:, : j + 1]]  # (rows, j + 1, m)
            shares = torch.linalg.lstsq(read.mT, target.table[..., None]).solution.squeeze(-1)
            self.shares[:, : j + 1] = shares
            rest = target.table - (shares[:, None] @ read).squeeze(1)
        left, right, _ = factorize(Target(rest, target.weights), self.own.shape[1], False)
        scale = balance(left, target.weights, self.std)
        self.own.copy_(left / scale)
        self.projection.copy_(right * scale)


def _means(x: Tensor, number: int, rounds: int = 15) -> tuple[Tensor, Tensor]:
    """Cluster of each row and the means, by k-means."""
    draw = torch.Generator().manual_seed(0)
    means = x[torch.randperm(len(x), generator=draw)[:number]].clone()
    nearest = torch.zeros(len(x), dtype=torch.long)
    for _ in range(rounds):
        nearest = (2 * x @ means.mT - means.square().sum(1)).argmax(1)
        counts = nearest.bincount(minlength=number)[:, None]
        sums = torch.zeros_like(means).index_add(0, nearest, x)
        means = torch.where(counts > 0, sums / counts.clamp_min(1), means)
    return nearest, means


class SlowAdaptive(AdaptiveEmbedding):
    """Adaptive input whose projections have the rate of a unit."""

    def unit_parameters(self) -> list[nn.Parameter]:
        return list(self.projections.values())


def clusters(vectors: Tensor, number: int, rounds: int = 15) -> Tensor:
    """Class of each vector, by k-means of directions."""
    vectors = F.normalize(vectors, dim=-1)
    draw = torch.Generator().manual_seed(0)
    centres = vectors[torch.randperm(len(vectors), generator=draw)[:number]]
    nearest = torch.zeros(len(vectors), dtype=torch.long)
    for _ in range(rounds):
        nearest = (vectors @ centres.T).argmax(-1)
        sums = torch.zeros_like(centres).index_add(0, nearest, vectors)
        centres = F.normalize(sums + 1e-6 * centres, dim=-1)
    return nearest
