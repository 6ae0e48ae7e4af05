"""What was measured of embeddings in language models: the table that suggestions rest on.

Each comparison is a section of `docs/log.md`, with its commands, commits and seeds. A new one is
one more entry here.
"""

from dataclasses import dataclass

__all__ = ["MEASURED", "METHODS", "START", "Comparison", "Result"]

METHODS = (
    "standard",
    "adaptive",
    "projected",
    "DeFINE",
    "projected, adaptive",
    "DeFINE, adaptive",
)


@dataclass(frozen=True)
class Result:
    """One embedding of a comparison.

    Attributes:
        method: Of `METHODS`; "projected, adaptive" has an adaptive Map.
        width: Width n of its table, or of its first band, over the width m of the model.
        share: Its parameters and those of the tied output layer over those of a table of width m.
        perplexity: On test text, the mean of all seeds.
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
        results: What each reached.
    """

    section: str
    model: str
    backbone: str
    num_embeddings: int
    tokens: int
    results: tuple[Result, ...]

    @property
    def tokens_per_word(self) -> float:
        """Training tokens for each word of the vocabulary."""
        return self.tokens / self.num_embeddings


START = "2026-11-26: an embedding that starts from its training text"
"""The section on starts, which any embedding can have."""

MEASURED = (
    Comparison(
        "2026-11-26: embeddings at equal parameters, one epoch of Penn Treebank",
        "Penn Treebank, LSTM 2 × 200, 1 epoch",
        "lstm",
        10_000,
        929_589,
        (
            Result("adaptive", 1, 0.21, 165.7),
            Result("projected, adaptive", 169 / 200, 0.21, 171.0),
            Result("DeFINE, adaptive", 120 / 200, 0.20, 172.7),
            Result("projected", 40 / 200, 0.21, 180.3),
            Result("DeFINE", 32 / 200, 0.21, 190.1),
            Result("standard", 52 / 200, 0.27, 192.0),
        ),
    ),
    Comparison(
        "2026-11-25: the start of the output of narrow tables",
        "Penn Treebank, LSTM 2 × 200, 3 epochs",
        "lstm",
        10_000,
        2_788_767,
        (
            Result("standard", 1, 1, 119.5),
            Result("adaptive", 1, 0.21, 123.2),  # of the section on equal parameters
            Result("projected", 96 / 200, 0.50, 120.8),
            Result("DeFINE", 96 / 200, 0.59, 122.8),
        ),
    ),
    Comparison(
        "2026-11-25: Penn Treebank for fifteen epochs",
        "Penn Treebank, LSTM 2 × 200, 15 epochs",
        "lstm",
        10_000,
        13_943_700,
        (
            Result("standard", 1, 1, 96.4),
            # Of the sections on equal parameters, "each method tuned alike".
            Result("adaptive", 1, 0.21, 99.4),
            Result("projected", 40 / 200, 0.21, 100.6),
            Result("DeFINE", 32 / 200, 0.21, 106.7),
            Result("projected, adaptive", 169 / 200, 0.21, 93.2),
            Result("DeFINE, adaptive", 120 / 200, 0.20, 96.1),
            Result("projected", 96 / 200, 0.50, 92.0),
            Result("DeFINE", 96 / 200, 0.59, 93.5),
        ),
    ),
    Comparison(
        "2026-11-23: WikiText-2, a small LSTM",
        "WikiText-2, LSTM 2 × 200, 3 epochs",
        "lstm",
        33_278,
        6_265_860,
        (
            Result("standard", 1, 1, 130.1),
            Result("projected", 96 / 200, 0.49, 126.6),
            Result("DeFINE", 96 / 200, 0.51, 130.6),
            Result("projected", 32 / 200, 0.16, 147.6),
            Result("DeFINE", 32 / 200, 0.18, 150.0),
        ),
    ),
    Comparison(
        "2026-11-26: WikiText-2 for six epochs at equal parameters",
        "WikiText-2, LSTM 2 × 200, 6 epochs",
        "lstm",
        33_278,
        12_531_720,
        (
            Result("adaptive", 1, 0.17, 122.7),
            Result("projected, adaptive", 187 / 200, 0.17, 115.5),
            Result("DeFINE, adaptive", 152 / 200, 0.16, 118.2),
        ),
    ),
    Comparison(
        "2026-11-26: 25 M tokens at 267,735 words, on a GPU",
        "Wikipedia, 267,735 words, LSTM 2 × 768, 25 M tokens",
        "lstm",
        267_735,
        25_000_000,
        (
            Result("adaptive", 1, 0.14, 151.2),
            Result("projected, adaptive", 255 / 256, 0.13, 142.1),
            Result("DeFINE, adaptive", 240 / 256, 0.13, 143.5),
        ),
    ),
    Comparison(
        "2026-11-25: the demo, documentation strings of Python",
        "documentation of Python, LSTM 2 × 128, 2 epochs",
        "lstm",
        7_680,
        868_294,
        (
            Result("standard", 1, 1, 82.7),
            Result("adaptive", 1, 0.21, 83.5),
            Result("projected", 64 / 128, 0.53, 82.0),
            Result("DeFINE", 64 / 128, 0.60, 83.9),
        ),
    ),
    Comparison(
        "2026-11-25: Transformer-XL on WikiText-2, small",
        "WikiText-2, Transformer-XL 4 × 200, 2 epochs",
        "transformer",
        33_278,
        4_177_256,
        (
            Result("standard", 1, 1, 136.0),
            Result("projected", 96 / 200, 0.49, 144.8),
            Result("DeFINE", 96 / 200, 0.51, 150.0),
        ),
    ),
    Comparison(
        "2026-11-26: Transformer-XL on WikiText-2 for six epochs at equal parameters",
        "WikiText-2, Transformer-XL 4 × 200, 6 epochs",
        "transformer",
        33_278,
        12_531_720,
        (
            Result("adaptive", 1, 0.13, 96.4),
            Result("projected, adaptive", 143 / 200, 0.13, 96.0),
            Result("DeFINE, adaptive", 120 / 200, 0.13, 97.3),
        ),
    ),
    Comparison(
        "2026-11-26: 25 M tokens at 267,735 words, on a GPU",
        "Wikipedia, 267,735 words, Transformer-XL 5 × 256, 25 M tokens",
        "transformer",
        267_735,
        25_000_000,
        (
            Result("adaptive", 1, 0.13, 114.5),
            Result("projected, adaptive", 255 / 256, 0.13, 111.7),
            Result("DeFINE, adaptive", 240 / 256, 0.13, 111.9),
        ),
    ),
)
