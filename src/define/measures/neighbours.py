"""The words whose vectors point the same way, and whether they still do."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from define.measures.rows import Table, gather_rows, row_chunks, table_shape

__all__ = ["Neighbours", "changed_neighbours", "nearest_neighbours"]


def nearest_neighbours(table: Table, ids: Tensor, count: int = 8) -> tuple[Tensor, Tensor]:
    """The rows of largest cosine with each given row, itself left out.

    Args:
        table: A (V, m) matrix or an embedding module.
        ids: (words,) int64 rows to find neighbours of.
        count: How many of them; fewer where the table has fewer rows.

    Returns:
        Cosines and ids, both (words, count), the nearest first; of equal ones, the lower id. A row
        of zeros has cosine 0 with all; rows that are not finite come last, with cosine -inf.

    Raises:
        ValueError: If `count` is below 1, or a given row is not finite.
        IndexError: If an id is outside of the table.
    """
    if count < 1:
        raise ValueError(f"{count=} must be at least 1.")
    size, _ = table_shape(table)
    count = min(count, size - 1)
    queries = gather_rows(table, ids)
    wrong = ~queries.isfinite().all(-1)
    if wrong.any():
        raise ValueError(f"Row {ids[wrong][0].item()} of the table is not finite.")
    queries = F.normalize(queries, dim=-1)
    cosines = torch.full((len(ids), 0), -torch.inf)
    found = torch.zeros(len(ids), 0, dtype=torch.int64)
    for chunk, rows in row_chunks(table):
        products = queries @ F.normalize(rows.float().cpu(), dim=-1).mT
        products = products.where(products.isfinite(), -torch.inf)
        products[ids[:, None] == chunk] = torch.inf  # itself: first, and dropped at the end
        cosines = torch.cat([cosines, products], -1)
        found = torch.cat([found, chunk.expand(len(ids), -1)], -1)
        # Earlier rows stay in front: of equal ones the lower id is kept.
        cosines, order = cosines.sort(dim=-1, descending=True, stable=True)
        cosines, found = cosines[:, : count + 1], found.gather(-1, order[:, : count + 1])
    return cosines[:, 1:], found[:, 1:]


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
