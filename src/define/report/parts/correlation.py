"""Whether the dimensions of an embedding are independent: the poster's first claim."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import pi, sqrt
from typing import TYPE_CHECKING, Any

from define.measures.correlation import Correlation
from define.measures.subject import Readings
from define.report.heatmaps import heat_maps
from define.report.part import Grid, Part, Picture, Request, Section, number
from define.report.style import Style, legend_below, new_figure, shown_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["HEADER", "CorrelationPart", "as_json", "cells", "left_out"]

HEADER = ("dimensions", "mean |r|", "effective rank", "% of width", "participation ratio")

_Found = tuple[str, tuple[Correlation, ...]]  # kind of the embedding, a result for each weighting


class CorrelationPart(Part[_Found]):
    """Correlation between dimensions over the vocabulary, and the spectrum."""

    def measure(self, readings: Readings, request: Request) -> _Found:
        return readings.subject.embedding, readings.output

    def as_json(self, found: _Found, request: Request) -> Mapping[str, Any]:
        kind, (once, *weighted) = found
        return {
            "embedding": kind,
            "unweighted": as_json(once),
            "weighted_by_frequency": as_json(weighted[0]) if weighted else None,
        }

    def section(self, found: Mapping[str, _Found], request: Request) -> Section:
        rows = [
            (name, kind, how, *cells(correlation))
            for name, (kind, results) in found.items()
            for how, correlation in zip(("equally", "by frequency"), results, strict=False)
        ]
        once = {name: results[0] for name, (_, results) in found.items()}
        size = len(request.words)
        text = (
            "The first claim of DeFINE's poster (Mehta et al., ICLR 2020): the dimensions of an "
            "embedding should be independent; those of standard and DeFINE embeddings are, nearly, "
            "and those of projected embeddings are not. r is Pearson's correlation between two "
            "dimensions over the words of the vocabulary; figures weight all words equally. "
            f"Independent dimensions over {size:,} words would have a mean |r| of "
            f"{sqrt(2 / (pi * size)):.4f} by chance. The effective rank (Roy & Vetterli 2007) is "
            "exp of the entropy of the singular values of the centred table; the participation "
            "ratio, (Σλ)² / Σλ² of the variances, weighs the largest axes more."
        )
        panels = [
            (f"{shown_name(name, 26)}\nmean |r| = {c.mean_absolute:.3f}", c.matrix)
            for name, c in once.items()
        ]
        pictures = [
            Picture(
                "correlation",
                heat_maps("Correlation between dimensions", panels, "dimension"),
                "Heat maps of |correlation| for each run",
            ),
            Picture("spectrum", _spectrum(once, request), "Singular values of each embedding"),
        ]
        header = ("run", "embedding", "words weighted", *HEADER)
        grids = [Grid(header, rows), *left_out((name, "output", c) for name, c in once.items())]
        return Section("Correlation between dimensions", text, pictures, grids)


def cells(found: Correlation) -> tuple[str, ...]:
    """One correlation under `HEADER`."""
    width = len(found.matrix)
    return (
        str(width),
        number(found.mean_absolute),
        f"{found.effective_rank:.1f}",
        f"{100 * found.effective_rank / width:.0f}",
        f"{found.participation_ratio:.1f}",
    )


def as_json(found: Correlation) -> dict[str, Any]:
    """One correlation, without its matrix. Dimensions are counted from 0, as in tensors."""
    return {
        "dimensions": len(found.matrix),
        "mean_absolute_correlation": found.mean_absolute,
        "effective_rank": found.effective_rank,
        "participation_ratio": found.participation_ratio,
        "constant_dimensions": found.constant,
        "nonfinite_dimensions": found.nonfinite,
        "singular_values": found.singular_values.tolist(),
    }


def left_out(places: Iterable[tuple[str, str, Correlation]]) -> Sequence[Grid]:
    """Names the dimensions that have no correlation, if there are any.

    Args:
        places: Run, where in its embedding, and the correlation there.
    """
    rows = [
        (name, where, what, ", ".join(map(str, dimensions)))
        for name, where, found in places
        for what, dimensions in (("constant", found.constant), ("not finite", found.nonfinite))
        if dimensions
    ]
    caption = "Dimensions (counted from 0) without a correlation; they are left out of all means."
    return [Grid(("run", "where", "what", "dimensions"), rows, caption)] if rows else []


def _spectrum(correlations: Mapping[str, Correlation], request: Request) -> Figure:
    """Singular values of each centred table, the largest as 1; zeros are left out."""
    figure = new_figure(3.3)
    axes = figure.subplots()
    for name, found in correlations.items():
        values = found.singular_values[found.singular_values > 0]
        if len(values):
            style: Style = request.styles[name] | {"markevery": max(1, len(values) // 12)}
            label = f"{shown_name(name, 32)} (rank {found.effective_rank:.0f})"
            axes.plot(range(1, len(values) + 1), values / values[0], label=label, **style)
    axes.set(
        title="Spectrum of each embedding",
        xlabel="principal axis",
        ylabel="singular value (largest = 1)",
        ylim=(0, 1.06),
    )
    axes.grid(alpha=0.3)
    legend_below(figure, axes)
    return figure
