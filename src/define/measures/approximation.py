"""How near a table comes to the one that it stands for: by frequency, and by its neighbours."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from define.measures.bands import EDGES
from define.measures.neighbours import nearest_neighbours
from define.measures.rows import Table, gather_rows, row_chunks

__all__ = ["BandError", "Neighbours", "band_errors", "changed_neighbours"]


@dataclass(frozen=True)
class BandError:
    """Squared error of the rows from rank `first` to `last`, relative to their own squares."""

    first: int
    last: int
    error: float


@torch.no_grad()
def band_errors(
    table: Table, other: Table, weights: Tensor, edges: Sequence[int] = EDGES
) -> tuple[BandError, ...]:
    """The relative error of what stands for a table, by the frequency of the words.

    Args:
        table: The table (V, m).
        other: What stands for it.
        weights: (V,) frequencies, or what follows their order.
        edges: Last rank of each band, rising.
    """
    off, size = [], []
    for (_, rows), (_, others) in zip(row_chunks(table), row_chunks(other), strict=True):
        rows = rows.double()
        off.append((others.double() - rows).square().sum(1).cpu())
        size.append(rows.square().sum(1).cpu())
    order = weights.argsort(descending=True, stable=True).cpu()
    errors, sizes = torch.cat(off)[order], torch.cat(size)[order]
    stops = [*(edge for edge in edges if edge < len(order)), len(order)]
    return tuple(
        BandError(first + 1, last, float(errors[first:last].sum() / sizes[first:last].sum()))
        for first, last in zip([0, *stops[:-1]], stops, strict=True)
    )


@dataclass(frozen=True)
class Neighbours:
    """The nearest rows of some rows, before and after.

    Args:
        ids: The rows that were asked (rows).
        before: Ids of their nearest rows by cosine (rows, count).
        after: The same in what stands for the table.
    """

    ids: Tensor
    before: Tensor
    after: Tensor

    @property
    def kept(self) -> float:
        """Share of the neighbours that are still among them."""
        same = self.before[:, :, None] == self.after[:, None, :]
        return float(same.any(-1).double().mean())


@torch.no_grad()
def changed_neighbours(
    table: Table, other: Table, weights: Tensor, rows: int = 200, count: int = 5
) -> Neighbours:
    """Neighbours of some rows, spread evenly over the logarithm of their rank.

    Args:
        table: The table (V, m).
        other: What stands for it.
        weights: (V,) frequencies, or what follows their order.
        rows: How many rows are asked; those that are zero have no neighbours.
        count: Neighbours of each.
    """
    order = weights.argsort(descending=True, stable=True).cpu()
    ranks = torch.logspace(0, torch.tensor(len(order)).log10().item(), rows).long().unique() - 1
    ids = order[ranks.clamp(0, len(order) - 1)]
    ids = ids[gather_rows(table, ids).any(1)]
    before, after = (nearest_neighbours(each, ids, count)[1] for each in (table, other))
    return Neighbours(ids, before, after)
