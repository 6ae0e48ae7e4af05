"""What a report of several runs says: sections of text, figures and tables, without a format."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, pi, sqrt
from typing import TYPE_CHECKING

from define.measures.bands import perplexity
from define.measures.correlation import Correlation
from define.measures.summary import RunSummary
from define.measures.table import MISSING
from define.report.curves import band_figure, depth_figure, map_figure, spectrum_figure
from define.report.draw import comparison_figure
from define.report.findings import Findings
from define.report.heatmaps import (
    correlation_figure,
    group_figure,
    layer_figure,
    scale_top,
    split_groups,
)
from define.report.style import Style, lines

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Grid", "Picture", "Section", "report_sections"]


@dataclass(frozen=True)
class Grid:
    """A table of text: the first column names the rows."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    caption: str = ""


@dataclass(frozen=True)
class Picture:
    """A figure with the name of its file, without ending, and what it shows, in words."""

    name: str
    figure: Figure
    description: str


@dataclass(frozen=True)
class Section:
    """A heading, a paragraph, and what it is about."""

    title: str
    text: str
    pictures: Sequence[Picture] = ()
    grids: Sequence[Grid] = ()


def report_sections(
    findings: Sequence[Findings], words: Sequence[str], split: str = "test"
) -> list[Section]:
    """All sections of a report, in order.

    Args:
        findings: Of each run, at least one.
        words: The V words of all runs.
        split: Name of the text that perplexity by frequency was measured on.

    Raises:
        ValueError: If there are no runs.
    """
    if not findings:
        raise ValueError("There are no runs to report on.")
    # A run is drawn alike in every figure, whichever runs a figure shows.
    kinds = [run.summary.kind if run.summary else run.name for run in findings]
    styles = {run.name: style for run, style in zip(findings, lines(kinds), strict=True)}
    trained = [(run.summary, styles[run.name]) for run in findings if run.summary is not None]
    sections = [_runs(*zip(*trained, strict=True))] if trained else []
    sections.append(_correlations(findings, len(words), styles))
    layered = [run for run in findings if run.layers]
    if layered:
        sections.append(_layers(layered, styles))
    if any(layer.groups > 1 for run in layered for layer in run.layers):
        sections.append(_groups(layered))
    banded = [run for run in findings if run.bands]
    if banded:
        sections.append(_bands(banded, split, styles))
    if any(run.similarities for run in findings):
        sections.append(_similarities(findings))
    return [*sections, _neighbours(findings), _map(findings, words)]


def _runs(summaries: Sequence[RunSummary], styles: Sequence[Style]) -> Section:
    header = ("run", "embedding", "unit M", "context M", "in-out M", "total M")
    rows = [
        (
            s.name,
            s.embedding,
            *(f"{size / 1e6:.2f}" for size in (s.unit, s.context, s.input_output, s.total)),
            f"{s.tokens_per_second:,.0f}",
            MISSING if s.peak_memory is None else f"{s.peak_memory / 2**30:.2f}",
            _number(s.valid_perplexity),
            MISSING if s.test_perplexity is None else _number(s.test_perplexity),
        )
        for s in summaries
    ]
    return Section(
        "Runs",
        "Parameters are in millions (M): of the embedding's unit, of the context model, and of the "
        "tables of input and output; ppl is perplexity, tokens/s the speed of training, GiB its "
        "peak of memory.",
        [Picture("runs", comparison_figure(summaries, styles), "Parameters and perplexities")],
        [Grid((*header, "tokens/s", "GiB", "valid ppl", "test ppl"), rows)],
    )


def _correlations(findings: Sequence[Findings], size: int, styles: Mapping[str, Style]) -> Section:
    rows = [
        (run.name, run.embedding, how, *_correlation_cells(found))
        for run in findings
        for how, found in (("equally", run.unweighted), ("by frequency", run.weighted))
        if found is not None
    ]
    header = ("run", "embedding", "words weighted", *_CORRELATION_HEADER)
    once = {run.name: run.unweighted for run in findings}
    text = (
        "The first claim of DeFINE's poster (Mehta et al., ICLR 2020): the dimensions of an "
        "embedding should be independent; those of standard and DeFINE embeddings are, nearly, and "
        "those of projected embeddings are not. r is Pearson's correlation between two dimensions "
        "over the words of the vocabulary; figures weight all words equally. "
        f"Independent dimensions over {size:,} words would have a mean |r| of "
        f"{sqrt(2 / (pi * size)):.4f} by chance. The effective rank (Roy & Vetterli 2007) is exp "
        "of the entropy of the singular values of the centred table; the participation ratio, "
        "(Σλ)² / Σλ² of the variances, weighs the largest axes more."
    )
    pictures = [
        Picture("correlation", correlation_figure(once), "Heat maps of |correlation| for each run"),
        Picture(
            "spectrum", spectrum_figure(once, styles), "Singular values of each run's embedding"
        ),
    ]
    return Section(
        "Correlation between dimensions", text, pictures, [Grid(header, rows), *_left_out(findings)]
    )


_CORRELATION_HEADER = (
    "dimensions",
    "mean |r|",
    "effective rank",
    "% of width",
    "participation ratio",
)


def _correlation_cells(found: Correlation) -> tuple[str, ...]:
    width = len(found.matrix)
    return (
        str(width),
        _number(found.mean_absolute),
        f"{found.effective_rank:.1f}",
        f"{100 * found.effective_rank / width:.0f}",
        f"{found.participation_ratio:.1f}",
    )


def _left_out(findings: Sequence[Findings]) -> list[Grid]:
    """Names the dimensions that have no correlation, wherever there are some."""
    places = [
        (run.name, where, found)
        for run in findings
        for where, found in [
            *((layer.name, layer.correlation) for layer in run.layers[:-1]),
            ("output", run.unweighted),
        ]
    ]
    rows = [
        (name, where, what, ", ".join(map(str, dimensions)))
        for name, where, found in places
        for what, dimensions in (("constant", found.constant), ("not finite", found.nonfinite))
        if dimensions
    ]
    caption = "Dimensions (counted from 0) without a correlation; they are left out of all means."
    return [Grid(("run", "where", "what", "dimensions"), rows, caption)] if rows else []


def _layers(findings: Sequence[Findings], styles: Mapping[str, Style]) -> Section:
    pictures = [
        Picture(
            "depth",
            depth_figure({run.name: run.layers for run in findings}, styles),
            "Mean |correlation| and effective rank from the Map to the output",
        )
    ]
    rows = []
    # One scale for all runs, since they are compared.
    top = scale_top(layer.correlation.matrix for run in findings for layer in run.layers)
    for i, run in enumerate(findings, 1):
        name = run.name
        description = f"Heat maps of |correlation| in each layer of {name}"
        pictures.append(Picture(f"layers-{i}", layer_figure(name, run.layers, top), description))
        for place, layer in enumerate(run.layers):
            weighted = MISSING
            if run.weighted_layers:
                weighted = _number(run.weighted_layers[place].correlation.mean_absolute)
            cells = _correlation_cells(layer.correlation)
            rows.append((name, layer.name, str(layer.groups), *cells, weighted))
    header = ("run", "layer", "groups", *_CORRELATION_HEADER, "mean |r| weighted by frequency")
    text = (
        "The poster's second claim: the Map's dimensions are correlated, and with depth the "
        "correlations shrink, layer by layer. Layers of Expand are measured after their "
        "activation, over 65,536 words drawn at random if there are more; words are weighted "
        "equally, but for the last column."
    )
    return Section("From the Map to the output", text, pictures, [Grid(header, rows)])


def _groups(findings: Sequence[Findings]) -> Section:
    pictures, rows = [], []
    grouped = {r.name: [x for x in r.layers if x.groups > 1] for r in findings}
    matrices = (layer.between_groups for layers in grouped.values() for layer in layers)
    top = scale_top(matrices, diagonal=True)
    for i, (name, several) in enumerate(grouped.items(), 1):
        if several:
            description = f"Mean |correlation| between the groups of each layer of {name}"
            pictures.append(Picture(f"groups-{i}", group_figure(name, several, top), description))
        for layer in several:
            within, between = split_groups(layer.between_groups)
            rows.append((name, layer.name, str(layer.groups), _number(within), _number(between)))
    text = (
        "The poster's third claim: the groups within a layer learn different things, so the "
        "correlation between features of different groups is low."
    )
    header = ("run", "layer", "groups", "mean |r| within groups", "between groups")
    return Section("Groups within a layer", text, pictures, [Grid(header, rows)])


def _bands(findings: Sequence[Findings], split: str, styles: Mapping[str, Style]) -> Section:
    names = [run.name for run in findings]
    rows, bands = [], findings[0].bands
    for place, band in enumerate(bands):
        perplexities = [_number(run.bands[place].perplexity) for run in findings]
        ranks = f"{band.first:,}–{band.last:,}"
        rows.append((ranks, f"{band.types:,}", f"{band.tokens:,}", *perplexities))
    whole = [_number(perplexity(run.bands)) for run in findings]
    types, tokens = (
        sum(sizes) for sizes in zip(*((b.types, b.tokens) for b in bands), strict=True)
    )
    rows.append((f"1–{bands[-1].last:,}", f"{types:,}", f"{tokens:,}", *whole))
    figure = band_figure({run.name: run.bands for run in findings}, split, styles)
    return Section(
        "Perplexity by frequency",
        f"Perplexity of the {split} text's targets by the rank of their frequency in training (1 "
        "is the most frequent word): does a gain sit with rare words? The losses of the bands add "
        "up to the whole, the last row.",
        [Picture("frequency", figure, "Perplexity by the frequency of the target")],
        [Grid(("ranks", "different words", "tokens", *names), rows)],
    )


def _similarities(findings: Sequence[Findings]) -> Section:
    rows = [
        (run.name, other, _number(found.cka), _number(found.rotated_correlation))
        for run in findings
        for other, found in run.similarities.items()
    ]
    return Section(
        "Likeness to other embeddings",
        "Linear CKA (Kornblith et al. 2019) asks whether the same words lie close together; the "
        "mean correlation is that of the other embedding's dimensions with this one's after the "
        "best rotation (orthogonal Procrustes). Both are 1 for embeddings that differ by rotation, "
        "scale and offset alone.",
        (),
        [Grid(("run", "with", "linear CKA", "mean r after rotation"), rows)],
    )


def _neighbours(findings: Sequence[Findings]) -> Section:
    rows = [
        (word, run.name, ", ".join(f"{other} {r:.2f}" for other, r in run.neighbours[word]))
        for word in findings[0].neighbours
        for run in findings
    ]
    return Section(
        "Nearest neighbours",
        "The words of largest cosine with each word.",
        (),
        [Grid(("word", "run", "neighbours and cosines"), rows)],
    )


def _map(findings: Sequence[Findings], words: Sequence[str]) -> Section:
    # Without frequencies, all runs show the same words: their vocabulary is one.
    which = "most frequent words" if findings[0].weighted else "first words of the vocabulary"
    title = f"The {len(findings[0].map.ids)} {which}"
    figure = map_figure({run.name: run.map for run in findings}, words, title)
    return Section(
        "Map of words",
        f"The first two principal axes of the vectors of the {which}, on one scale: 1 is the root "
        "mean square of the words' distances from their mean in all dimensions. Labels that would "
        "cover others are left out.",
        [Picture("map", figure, "Words on two principal axes")],
    )


def _number(value: float) -> str:
    """Three digits behind the point for small numbers, four digits in all for others."""
    if not isfinite(value):
        return MISSING
    if abs(value) < 1:
        return f"{value:.3f}"
    return f"{value:,.{2 if abs(value) < 100 else 1 if abs(value) < 1000 else 0}f}"
