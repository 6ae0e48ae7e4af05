"""What was measured of embeddings in language models: the table that suggestions rest on.

Each comparison is a section of `docs/log.md`, with its commands, commits and seeds. A new one is
one more entry here.
"""

from dataclasses import dataclass

__all__ = ["MEASURED", "Comparison", "Result"]


@dataclass(frozen=True)
class Result:
    """One embedding of a comparison.

    Attributes:
        method: "adaptive", "projected" or "DeFINE".
        width: Width n of its table, or of its first band, over the width m of its rows.
        share: Its parameters and those of the tied output layer over the standard table's.
        perplexity: On test text, over that of the standard table.
    """

    method: str
    width: float
    share: float
    perplexity: float


@dataclass(frozen=True)
class Comparison:
    """Embeddings in one model, trained alike.

    Attributes:
        section: Heading in the log.
        model: Text and model.
        backbone: "lstm" or "transformer".
        num_embeddings: Size V of the vocabulary.
        tokens: Training tokens seen, repetitions counted.
        seeds: How many; with one, differences of 1 % are none.
        results: Those that are not the standard table.
    """

    section: str
    model: str
    backbone: str
    num_embeddings: int
    tokens: int
    seeds: int
    results: tuple[Result, ...]


MEASURED = (
    Comparison(
        "2026-11-25: the start of the output of narrow tables",
        "Penn Treebank, LSTM 2 × 200, 3 epochs",
        "lstm",
        10_000,
        2_788_767,
        2,
        (
            Result("projected", 96 / 200, 0.50, 120.8 / 119.5),
            Result("DeFINE", 96 / 200, 0.59, 122.8 / 119.5),
        ),
    ),
    Comparison(
        "2026-11-25: Penn Treebank for fifteen epochs",
        "Penn Treebank, LSTM 2 × 200, 15 epochs",
        "lstm",
        10_000,
        13_943_700,
        2,
        (
            Result("projected", 96 / 200, 0.50, 92.0 / 96.4),
            Result("DeFINE", 96 / 200, 0.59, 93.5 / 96.4),
        ),
    ),
    Comparison(
        "2026-11-23: WikiText-2, a small LSTM",
        "WikiText-2, LSTM 2 × 200, 3 epochs",
        "lstm",
        33_278,
        6_265_860,
        1,
        (
            Result("projected", 96 / 200, 0.49, 126.6 / 130.1),
            Result("DeFINE", 96 / 200, 0.51, 130.6 / 130.1),
            Result("projected", 32 / 200, 0.16, 147.6 / 130.1),
            Result("DeFINE", 32 / 200, 0.18, 150.0 / 130.1),
        ),
    ),
    Comparison(
        "2026-11-25: the demo, documentation strings of Python",
        "documentation of Python, LSTM 2 × 128, 2 epochs",
        "lstm",
        7_680,
        868_294,
        1,
        (
            Result("projected", 64 / 128, 0.53, 82.0 / 82.7),
            Result("DeFINE", 64 / 128, 0.60, 83.9 / 82.7),
        ),
    ),
    Comparison(
        "2026-11-25: Transformer-XL on WikiText-2, small",
        "WikiText-2, Transformer-XL 4 × 200, 2 epochs",
        "transformer",
        33_278,
        4_177_256,
        1,
        (
            Result("projected", 96 / 200, 0.49, 144.8 / 136.0),
            Result("DeFINE", 96 / 200, 0.51, 150.0 / 136.0),
        ),
    ),
)
