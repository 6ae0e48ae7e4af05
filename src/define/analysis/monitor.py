"""Two numbers of an embedding that are cheap enough for every validation."""

from define.analysis.correlation import correlation
from define.analysis.rows import Table, row_chunks

__all__ = ["embedding_scalars"]


def embedding_scalars(table: Table, rows: int = 4096) -> dict[str, float]:
    """Mean |correlation| between dimensions, and effective rank, over the first rows of a table.

    The first rows are the most frequent words wherever the vocabulary is sorted by frequency, as
    those of this package are. At 4096 rows of 400 features it takes 0.1 s of one core for a plain
    table, 0.3 s for DeFINE with k = 1024, whose rows are computed.

    Args:
        table: A (V, m) matrix or an embedding module.
        rows: How many rows are read; more than m, or else the rank is theirs.
    """
    # Taken whole: at this size one matrix is no burden, and nothing else is computed.
    _, first = next(row_chunks(table, rows))
    found = correlation(first)
    return {
        "embedding_correlation": found.mean_absolute,
        "embedding_effective_rank": found.effective_rank,
    }
