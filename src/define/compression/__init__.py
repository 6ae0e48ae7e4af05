"""Compression of trained tables: any embedding of this package, fitted to a given table."""

from define.compression.budget import Widths, widths_for_share
from define.compression.fit import Fit, fit_embedding

__all__ = ["Fit", "Widths", "fit_embedding", "widths_for_share"]
