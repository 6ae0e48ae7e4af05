"""Ways to let rare words share what they have in common, beside a narrow row of their own.

Each is adaptive input whose narrow bands read more than a row of their own: the table of such a
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

from define.embedding import Band, Embedding

__all__ = ["BandUnits", "Classes", "Shared", "Spelled", "clusters"]


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
