"""The models of the paper's tables: their parameters as we count them, beside those printed.

Table 1a (LSTM, WikiText-103), Table 2 (Transformer-XL, WikiText-103), the Penn Treebank and WMT14
results, and the ablations of the appendix, all of Mehta et al. 2020.

Context models and input-output parts come out as printed (but for translation, whose vocabulary
has to be inferred). The paper's own unit cannot be derived from its text: g_max is not given, and
it prints one configuration as 40.46, 40.73 and 40.89 M. So DeFINE rows show our unit at the
paper's n, k, N and m, without Reduce's path from the Map, at the power of two for g_max that comes
nearest to the printed unit, or to what the printed total leaves for it. Rows of the ablation that
differ in the skip connection or in Reduce share the g_max of their DeFINE row, so that they differ
in one thing alone.
"""

import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import groupby
from typing import Any, cast

from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, Embedding
from define.measures.counting import count_parameters, shapes_only
from define.measures.table import MISSING, text_table
from define.models import LSTM, LanguageModel, TransformerXL
from define.models.language_model import ParameterCounts
from define.softmax import AdaptiveSoftmax, Softmax, TiedSoftmax

__all__ = [
    "PaperRow",
    "Printed",
    "awd_lstm",
    "lstm",
    "paper_json",
    "paper_rows",
    "paper_table",
    "transformer_xl",
    "translation_counts",
    "unit",
]

_WIKITEXT_103 = 267_735
_CUTOFFS = (20_000, 40_000, 200_000)
_PENN_TREEBANK = 10_000

_SHARED_BIASES = (
    "Context models are counted as printed: without the 820 biases of attention that all layers "
    "share."
)
_INFERRED = (
    "Inferred: the paper prints neither the vocabulary nor what is tied. Counted are the base "
    "Transformer, two input tables and a generator of their own; with DeFINE, n = 128 and one unit "
    "for each of the input tables. It is the recipe wmt14 with --share false --tie false."
)
_NO_REDUCE = "Without Reduce, the context model reads the 1024 features at the end of Expand."
_DEPTH = (
    "The paper prints N 7, k 1024 as 40.46, 40.73 and 40.89 M; N 11, k 1024 as 48.69 and 49.55."
)


@dataclass(frozen=True)
class Printed:
    """Parameters in millions as the paper prints them, None where it does not."""

    total: float
    unit: float | None = None
    context: float | None = None
    input_output: float | None = None


@dataclass(frozen=True)
class PaperRow:
    """One model of the paper.

    Attributes:
        table: The paper's table, or experiment.
        name: The row within it.
        paper: What the paper prints.
        ours: What our model of the row has.
        exact: Whether the paper's text determines all counts, so that ours are the printed ones.
        max_groups: Our g_max, for rows with DeFINE (for a GLT, its groups).
        note: What else there is to know.
    """

    table: str
    name: str
    paper: Printed
    ours: ParameterCounts
    exact: bool
    max_groups: int | None = None
    note: str = ""


def unit(map: nn.Embedding | Embedding, embedding_dim: int, **options: Any) -> DeFINE:  # noqa: ANN401
    """DeFINE as Section 3 describes it: Reduce reads the end of Expand alone."""
    size = map.num_embeddings
    return DeFINE(size, embedding_dim, map=map, reduce_map=False, **options)


def lstm(
    map_dim: int,
    *,
    adaptive: bool = True,
    embed: Callable[[nn.Embedding | Embedding], DeFINE] | None = None,
) -> LanguageModel:
    """LSTM of Table 1a: four layers of 1024, the last as wide as the Map, to which it is tied.

    Args:
        map_dim: Width n of the Map.
        adaptive: Whether input and output are adaptive, or standard with a bias for each word.
        embed: Makes the embedding from the Map, see :func:`unit`; the Map itself if omitted.
    """
    if adaptive:
        map = AdaptiveEmbedding(_WIKITEXT_103, map_dim, cutoffs=_CUTOFFS)
        head = AdaptiveSoftmax(map)
    else:
        map = nn.Embedding(_WIKITEXT_103, map_dim)
        head = TiedSoftmax(map)
    embedding = map if embed is None else embed(map)
    backbone = LSTM(embedding.embedding_dim, 1024, 4, output_size=map_dim)
    return LanguageModel(embedding, backbone, head)


def transformer_xl(
    map_dim: int, *, width: int = 384, inner_dim: int = 1920, max_groups: int | None = None
) -> LanguageModel:
    """Transformer-XL of Table 2: 16 layers, 10 heads of 41, all bands of one width.

    Args:
        map_dim: Width n of the tables, projected to `width` where it differs.
        width: Width m of the model.
        inner_dim: Width of the hidden layer of the feed-forward part.
        max_groups: g_max of DeFINE, N = 3 and k = 4096, on the projected vectors; no DeFINE if
            omitted.
    """
    map = AdaptiveEmbedding(_WIKITEXT_103, width, cutoffs=_CUTOFFS, map_dim=map_dim, div_value=1)
    embedding = map
    if max_groups is not None:
        embedding = unit(map, width, expand_dim=4096, max_groups=max_groups)
    backbone = TransformerXL(width, 16, inner_dim=inner_dim)
    return LanguageModel(
        embedding, backbone, AdaptiveSoftmax(map, width, bias=True, cluster_bias=True)
    )


def awd_lstm(max_groups: int | None = None) -> LanguageModel:
    """AWD-LSTM on the Penn Treebank: 400-1150-1150-400, or with DeFINE 400-1150-1150-128.

    Args:
        max_groups: g_max of DeFINE, n = 128, k = 1024 and N = 7; no DeFINE if omitted.
    """
    map = nn.Embedding(_PENN_TREEBANK, 400 if max_groups is None else 128)
    embedding = map if max_groups is None else unit(map, 400, depth=7, max_groups=max_groups)
    backbone = LSTM(400, 1150, 3, output_size=map.embedding_dim)
    return LanguageModel(embedding, backbone, TiedSoftmax(map))


def translation_counts(num_embeddings: int, max_groups: int | None = None) -> ParameterCounts:
    """Parameters of the base Transformer (Vaswani et al. 2017) with untied tables.

    Args:
        num_embeddings: Size V of each of the two vocabularies.
        max_groups: g_max of DeFINE, n = 128, k = 1024 and N = 3, in both input tables; no DeFINE
            if omitted.
    """
    maps = [nn.Embedding(num_embeddings, 512 if max_groups is None else 128) for _ in range(2)]
    units = 0
    if max_groups is not None:
        embeddings = nn.ModuleList(unit(map, 512, max_groups=max_groups) for map in maps)
        units = count_parameters(embeddings) - count_parameters(*maps)
    # Not nn.Transformer: it adds a normalization after the last layers, which are normalized.
    encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(512, 8, 2048), 6, None, False)
    decoder = nn.TransformerDecoder(nn.TransformerDecoderLayer(512, 8, 2048), 6)
    return ParameterCounts(
        units,
        count_parameters(encoder, decoder),
        count_parameters(*maps) + count_parameters(Softmax(512, num_embeddings)),
    )


def paper_rows() -> tuple[PaperRow, ...]:
    """All rows, counted on models that are built without memory."""
    with shapes_only():
        return (*_table_1a(), *_table_2(), *_penn_treebank(), *_wmt14(), *_ablation(), *_depths())


def _table_1a() -> Iterator[PaperRow]:
    table = "Table 1a: LSTM, WikiText-103"
    for name, n, adaptive, sizes in (
        ("R1 standard", 256, False, (92.17, 0, 23.36, 68.81)),
        ("R2 adaptive", 256, True, (32.61, 0, 23.36, 9.25)),
    ):
        ours = lstm(n, adaptive=adaptive).parameter_counts()
        yield PaperRow(table, name, Printed(*sizes), ours, exact=True)
    for name, n, depth, g, sizes in (
        ("R3 + DeFINE, N 3", 256, 3, 32, (33.02, 0.41, 23.36, 9.25)),
        ("R4 + DeFINE, N 7", 384, 7, 128, (40.46, 1.83, 24.73, 13.90)),
        ("R5 + DeFINE, N 11", 512, 11, 512, (48.69, 3.89, 26.24, 18.55)),
    ):
        embed = partial(unit, embedding_dim=n, depth=depth, max_groups=g)
        ours = lstm(n, embed=embed).parameter_counts()
        yield PaperRow(table, name, Printed(*sizes), ours, exact=False, max_groups=g)


def _table_2() -> Iterator[PaperRow]:
    def row(name: str, sizes: tuple[float, ...], model: LanguageModel, g: int | None) -> PaperRow:
        ours = model.parameter_counts()
        backbone = cast(TransformerXL, model.backbone)
        shared = backbone.content_bias.numel() + backbone.position_bias.numel()
        ours = replace(ours, context=ours.context - shared)
        return PaperRow(table, name, Printed(*sizes), ours, g is None, g, _SHARED_BIASES)

    table = "Table 2: Transformer-XL, WikiText-103"
    published = transformer_xl(410, width=410, inner_dim=2100)
    yield row("n 410, published", (151.11, 0, 41.07, 110.04), published, None)
    g = 128
    for n, input_output, total, define_total in (
        (384, 103.08, 139.33, 141.25),
        (256, 69.20, 105.45, 107.37),
        (128, 34.73, 70.98, 72.90),
        (64, 17.50, 53.75, 55.67),
    ):
        yield row(f"n {n}", (total, 0, 36.25, input_output), transformer_xl(n), None)
        define = transformer_xl(n, max_groups=g)
        yield row(f"n {n} + DeFINE", (define_total, 1.92, 36.25, input_output), define, g)


def _penn_treebank() -> Iterator[PaperRow]:
    table = "Penn Treebank"
    yield PaperRow(table, "AWD-LSTM", Printed(24), awd_lstm().parameter_counts(), exact=True)
    ours = awd_lstm(128).parameter_counts()
    yield PaperRow(table, "AWD-LSTM + DeFINE", Printed(20), ours, exact=False, max_groups=128)


def _wmt14() -> Iterator[PaperRow]:
    table = "WMT14 English-German: base Transformer"
    for size in (31_000, 37_000):
        for name, total, g in ((f"V {size:,}", 92, None), (f"V {size:,} + DeFINE", 68, 128)):
            ours = translation_counts(size, g)
            yield PaperRow(table, name, Printed(total), ours, False, g, _INFERRED)


def _ablation() -> Iterator[PaperRow]:
    table = "Ablation: LSTM, WikiText-103, N 7, n = m = 384, k 1024"
    build = partial(unit, embedding_dim=384, depth=7)
    hgt = partial(build, max_groups=64)
    glt = partial(build, groups=(8,) * 7, skip="none")
    for name, total, g, embed in (
        ("linear stack", 42.86, 1, partial(build, max_groups=1, skip="none")),
        ("GLT", 39.69, 8, glt),
        ("GLT + shuffle", 39.69, 8, partial(glt, shuffle=True)),
        ("HGT, no skip", 40.73, 64, partial(hgt, skip="none")),
        ("DeFINE, no mixer", 40.89, 64, partial(hgt, skip="concatenation")),
        ("DeFINE", 40.89, 64, hgt),
        ("DeFINE, residual", 41.63, 64, partial(hgt, skip="residual")),
        ("DeFINE, no Reduce", 43.91, 64, partial(hgt, embedding_dim=1024, reduce=False)),
    ):
        ours = lstm(384, embed=embed).parameter_counts()
        note = _NO_REDUCE if "no Reduce" in name else ""
        yield PaperRow(table, name, Printed(total), ours, False, g, note)


def _depths() -> Iterator[PaperRow]:
    table = "Depth and width: LSTM + DeFINE, WikiText-103"
    for depth, n, totals in (
        (3, 256, ((1024, 33.02, 32), (1536, 33.15, 64), (2048, 33.29, 128))),
        (7, 384, ((1024, 40.73, 128), (1536, 41.86, 128), (2048, 43.19, 128))),
        (11, 512, ((1024, 49.55, 512), (1536, 52.02, 512), (2048, 55.02, 512))),
    ):
        for k, total, g in totals:
            embed = partial(unit, embedding_dim=n, expand_dim=k, depth=depth, max_groups=g)
            ours = lstm(n, embed=embed).parameter_counts()
            yield PaperRow(table, f"N {depth}, k {k}", Printed(total), ours, False, g, _DEPTH)


def paper_table(rows: Sequence[PaperRow]) -> str:
    """The rows as text, a Markdown table for each of the paper's; at most 100 characters a line."""
    parts = ["Parameters in millions: ours, and as printed in the paper."]
    header = ("row", "g_max", "unit", "paper", "context", "paper", "in-out", "paper")
    for table, group in groupby(rows, key=lambda row: row.table):
        group = list(group)
        parts += [table, text_table((*header, "total", "paper"), map(_cells, group))]
        parts += [textwrap.fill(note, 100) for note in {row.note: 0 for row in group} if note]
    parts.append(
        textwrap.fill(
            "Rows without g_max follow from the paper's text and come out as printed (but for "
            "translation). g_max is ours: the paper does not give it, and its unit cannot be "
            "derived, so ours stands beside it at the power of two that comes nearest; one for "
            "all rows of the ablation with HGT.",
            100,
        )
    )
    return "\n\n".join(parts)


def _cells(row: PaperRow) -> list[str]:
    cells = [row.name, MISSING if row.max_groups is None else str(row.max_groups)]
    for part in ("unit", "context", "input_output", "total"):
        cells.append(f"{getattr(row.ours, part) / 1e6:.2f}")
        printed = getattr(row.paper, part)
        if printed is None:
            cells.append(MISSING)
        else:  # an int where the paper prints no decimals
            cells.append(str(printed) if isinstance(printed, int) else f"{printed:.2f}")
    return cells


def paper_json(rows: Sequence[PaperRow]) -> list[dict[str, object]]:
    """The rows as JSON takes them: the paper's numbers in millions, ours exactly."""
    return [{**asdict(row), "ours": {**asdict(row.ours), "total": row.ours.total}} for row in rows]
