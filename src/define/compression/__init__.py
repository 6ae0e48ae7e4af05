"""Compression of trained tables: any embedding of this package, fitted to a given table."""

from define.compression.fit import Fit, fit_embedding
from define.compression.rounding import Candidate, Compressed, compress_table, stored_bytes
from define.compression.vectors import (
    load_table,
    rank_weights,
    read_vectors,
    read_weights,
    save_table,
)

__all__ = [
    "Candidate",
    "Compressed",
    "Fit",
    "compress_table",
    "fit_embedding",
    "load_table",
    "rank_weights",
    "read_vectors",
    "read_weights",
    "save_table",
    "stored_bytes",
]
