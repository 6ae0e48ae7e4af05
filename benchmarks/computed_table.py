"""What an output tied to computed rows costs beside one tied to the Map.

A step is look-up, output layer and backward pass, or all of a language model with a backbone; the
ratio is that of medians of their processor time, taken in turn. Memory is the highest that a
process of its own reached, over what it had before its steps.

    python benchmarks/computed_table.py
    python benchmarks/computed_table.py --expand_dim 256 --depth 1 --max_groups 4
"""

import argparse
import ctypes
import multiprocessing
import resource
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from torch import nn

from define import LSTM, AdaptiveSoftmax, DeFINE, OutputLayer, TiedSoftmax
from define.embedding import draw, tied_table

_MMAP_THRESHOLD = -3  # of glibc

HEADS = ("map", "first band", "embedding", "stored")  # the last without a unit: a table as wide


def make_head(kind: str, embedding: nn.Module, in_features: int, cutoffs: list[int]) -> OutputLayer:
    """The output layer of a kind; a full softmax without cutoffs."""
    tied = tied_table(embedding) if kind == "map" else embedding
    if not cutoffs:
        return TiedSoftmax(tied, in_features)
    first = kind == "first band"
    return AdaptiveSoftmax(tied, in_features, cutoffs, first_band_only=first)


def make_step(kind: str, settings: argparse.Namespace) -> Callable[[], None]:
    """One training step but for the optimizer's."""
    torch.manual_seed(0)
    sizes = settings.num_embeddings, settings.embedding_dim
    embedding: nn.Module
    if kind == "stored":
        embedding = nn.Embedding(*sizes)
        draw(embedding, settings.embedding_dim**-0.5)
    else:
        embedding = DeFINE(
            *sizes,
            map=settings.map,
            expand_dim=settings.expand_dim,
            depth=settings.depth,
            max_groups=settings.max_groups,
        )
    head = make_head(kind, embedding, settings.embedding_dim, settings.cutoffs)
    backbone = None
    if settings.lstm:
        backbone = LSTM(
            settings.embedding_dim, settings.lstm, 2, output_size=settings.embedding_dim
        )
    # Zipf's law: the frequency of a word falls as one over its rank.
    frequency = 1 / torch.arange(1, settings.num_embeddings + 1, dtype=torch.float64)
    ids = torch.multinomial(frequency, settings.tokens + 1, replacement=True)
    columns = settings.tokens // settings.length
    tokens, targets = (t.view(columns, -1) for t in (ids[:-1], ids[1:]))
    parts = nn.ModuleList([embedding, head, *([backbone] if backbone else [])])

    def step() -> None:
        x: torch.Tensor = embedding(tokens)
        if backbone is not None:
            x, _ = backbone(x)
        head(x, targets).mean().backward()
        parts.zero_grad(set_to_none=True)
        # As after the step of an optimizer.
        with torch.no_grad():
            next(tied_table(embedding).parameters()).add_(0.0)

    return step


def memory(kind: str, settings: argparse.Namespace) -> float:
    """MiB that steps need at most, for a process of its own."""
    # Large blocks go back to the system as soon as they are free: what is held is seen.
    ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, 2**16)
    torch.set_num_threads(settings.threads)
    step = make_step(kind, settings)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(3):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measures all ways."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num_embeddings", type=int, default=50_000)
    parser.add_argument("--embedding_dim", type=int, default=200)
    parser.add_argument("--map", type=int, default=64)
    parser.add_argument("--expand_dim", type=int, default=512)
    parser.add_argument("--depth", type=int, default=2)
    parser.add_argument("--max_groups", type=int, default=8)
    parser.add_argument("--cutoffs", type=int, nargs="*", default=[2_500, 10_000])
    parser.add_argument("--lstm", type=int, default=200, help="hidden width; 0 for no backbone")
    parser.add_argument("--tokens", type=int, default=4_800)
    parser.add_argument("--length", type=int, default=60)
    parser.add_argument("--steps", type=int, default=11)
    parser.add_argument("--threads", type=int, default=1)
    settings = parser.parse_args()
    if settings.tokens % settings.length:
        parser.error(f"--length {settings.length} must divide --tokens {settings.tokens}.")
    heads = HEADS if settings.cutoffs else ("map", "embedding", "stored")
    used = {}
    for kind in heads:  # before threads of our own
        with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
            used[kind] = process.submit(memory, kind, settings).result()
    torch.set_num_threads(settings.threads)
    steps = {kind: make_step(kind, settings) for kind in heads}
    times: dict[str, list[float]] = {kind: [] for kind in heads}
    for turn in range(settings.steps + 1):
        for kind, step in steps.items():
            start = time.process_time()
            step()
            if turn:  # the first warms up
                times[kind].append(time.process_time() - start)
    print(settings)
    base = statistics.median(times["map"])
    for kind in heads:
        median = statistics.median(times[kind])
        print(
            f"{kind:12} {median * 1e3:8.0f} ms  {median / base:5.2f} of the Map's step  "
            f"{used[kind] - used['map']:+8.0f} MiB"
        )


if __name__ == "__main__":
    main()
