"""Why DeFINE lagged behind the baselines: one epoch of Penn Treebank for each suspect.

    python benchmarks/remedies.py --data DATA [--only NAME ...] [--seed 1]

Prints validation perplexity after one epoch (929,589 tokens, Adam, warm-up and cosine) of the small
LSTM without weight drop. Each line names what differs from the first of its embedding.
"""

import argparse
import math
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from define import DeFINE, LanguageModel, ProjectedEmbedding
from define.data import Segments, Text
from define.recipes import penn_treebank_small
from define.training import Cosine, mean_nll

MAP, LENGTH, COLUMNS, CLIP = 96, 35, 20, 0.25


@dataclass(frozen=True)
class Variant:
    """What is tried: rates of Adam, initial scale, and the unit."""

    embedding: type[nn.Module]
    learning_rate: float
    unit_rate: float = 1.0
    std: float = 0.2
    depth: int = 3
    max_groups: int = 8
    activation: type[nn.Module] = nn.GELU
    norm: type[nn.Module] | None = None
    linear_start: bool = False
    cutoffs: tuple[int, ...] = (1000, 3500)


STANDARD = partial(Variant, nn.Embedding)
PROJECTED = partial(Variant, ProjectedEmbedding)
UNIT = partial(Variant, DeFINE)
FULL = ()  # exact full softmax
VARIANTS = {
    "standard, 0.004, scale 0.4": STANDARD(0.004, std=0.4),
    "standard, 0.008": STANDARD(0.008),
    "projected, 0.002, full softmax": PROJECTED(0.002, cutoffs=FULL),
    "projected, 0.004, full softmax": PROJECTED(0.004, cutoffs=FULL),
    "projected, 0.004, scale 0.4": PROJECTED(0.004, std=0.4),
    "projected, 0.008": PROJECTED(0.008),
    "projected, 0.008, matrix at 0.1": PROJECTED(0.008, 0.1),
    "DeFINE, 0.002, scale 0.4, full softmax": UNIT(0.002, std=0.4, cutoffs=FULL),
    "DeFINE, 0.002, scale 0.4, full softmax, unit at 0.3": UNIT(0.002, 0.3, 0.4, cutoffs=FULL),
    "DeFINE, 0.002, scale 0.4, full softmax, unit at 0.1": UNIT(0.002, 0.1, 0.4, cutoffs=FULL),
    "DeFINE, 0.002, scale 0.4, full softmax, linear start": UNIT(
        0.002, std=0.4, cutoffs=FULL, linear_start=True
    ),
    "DeFINE, 0.004, scale 0.4": UNIT(0.004, std=0.4),
    "DeFINE, 0.004, scale 0.4, full softmax": UNIT(0.004, std=0.4, cutoffs=FULL),
    "DeFINE, 0.004, scale 0.4, unit at 0.3": UNIT(0.004, 0.3, 0.4),
    "DeFINE, 0.004": UNIT(0.004),
    "DeFINE, 0.008, scale 0.4": UNIT(0.008, std=0.4),
    "DeFINE, 0.008, scale 0.4, unit at 0.1": UNIT(0.008, 0.1, 0.4),
    "DeFINE, 0.008, unit at 0.3": UNIT(0.008, 0.3),
    "DeFINE, 0.008, unit at 0.1": UNIT(0.008, 0.1),
    "DeFINE, 0.016, unit at 0.05": UNIT(0.016, 0.05),
    "DeFINE, 0.008, unit at 0.1, linear start": UNIT(0.008, 0.1, linear_start=True),
    "DeFINE, 0.008, unit at 0.1, LayerNorm": UNIT(0.008, 0.1, norm=nn.LayerNorm),
    "DeFINE, 0.008, unit at 0.1, ReLU": UNIT(0.008, 0.1, activation=nn.ReLU),
    "DeFINE, 0.008, unit at 0.1, linear start, ReLU": UNIT(
        0.008, 0.1, activation=nn.ReLU, linear_start=True
    ),
    "DeFINE, 0.008, unit at 0.1, 7 layers": UNIT(0.008, 0.1, depth=7, max_groups=32),
}


def make_embedding(variant: Variant, num_embeddings: int, embedding_dim: int) -> nn.Module:
    """The embedding of a variant."""
    if variant.embedding is nn.Embedding:
        return nn.Embedding(num_embeddings, embedding_dim)
    if variant.embedding is ProjectedEmbedding:
        return ProjectedEmbedding(num_embeddings, embedding_dim, map=MAP)
    return DeFINE(
        num_embeddings,
        embedding_dim,
        map=MAP,
        expand_dim=384,
        depth=variant.depth,
        max_groups=variant.max_groups,
        activation=variant.activation,
        norm=variant.norm,
    )


@torch.no_grad()
def start_linear(embedding: DeFINE) -> None:
    """Leaves only Reduce's path from the Map: the unit begins as a projection."""
    reduce = embedding.reduce
    if reduce is None or reduce.bias is None:
        raise ValueError("A linear start needs Reduce.")
    reduce.weight[..., :-MAP].zero_()
    reduce.weight[..., -MAP:].normal_(std=MAP**-0.5)
    reduce.bias.zero_()


def optimizer(model: LanguageModel, variant: Variant) -> torch.optim.Adam:
    """Adam, with a rate of its own for what is computed from the Map."""
    unit: set[nn.Parameter] = set()
    if isinstance(model.embedding, DeFINE | ProjectedEmbedding):
        unit = set(model.embedding.parameters()) - set(model.embedding.map.parameters())
    rates = {False: variant.learning_rate, True: variant.learning_rate * variant.unit_rate}
    return torch.optim.Adam(
        [
            {"params": parameters, "lr": rate, "peak": rate}
            for own, rate in rates.items()
            if (parameters := [p for p in model.parameters() if (p in unit) == own])
        ]
    )


def perplexity(variant: Variant, data: Text, seed: int) -> float:
    """Validation perplexity after one epoch."""
    model = penn_treebank_small(
        data,
        partial(make_embedding, variant),  # pyright: ignore[reportArgumentType]
        embedding_std=variant.std,
        weight_dropout=0.0,
        word_dropout=0.0,
        cutoffs=variant.cutoffs,
        seed=seed,
    ).model
    if variant.linear_start:
        start_linear(model.embedding)  # pyright: ignore[reportArgumentType]
    adam = optimizer(model, variant)
    corpus, state = data.open(), None
    segments = Segments(corpus.split("train"), COLUMNS, LENGTH)
    for step, (tokens, targets) in enumerate(segments):
        for group in adam.param_groups:
            group["lr"] = group["peak"] * Cosine().factor(step, len(segments))
        nll, state = model(tokens, targets, state)
        state = tuple((h.detach(), c.detach()) for h, c in state)
        adam.zero_grad()
        nll.mean().backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        adam.step()
    valid = Segments(corpus.split("valid"), COLUMNS, LENGTH, drop_last=False)
    return math.exp(mean_nll(model, valid))


def main() -> None:
    """Runs the variants that are asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of Penn Treebank")
    parser.add_argument("--only", nargs="*", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    for name in arguments.only:
        started = time.process_time()
        found = perplexity(VARIANTS[name], Text(arguments.data), arguments.seed)
        print(f"{name:<56}{found:8.1f}{time.process_time() - started:8.0f} s", flush=True)


if __name__ == "__main__":
    main()
