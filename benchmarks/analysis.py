"""How long the analysis of a large embedding takes, and in how much memory.

Draws an embedding anew and measures in one process what a report reads of it, and what else an
analysis may ask for: time on the clock, of the processor, and the peak resident memory so
far. On a busy machine the processor's time divided by the threads is the better measure.

    python benchmarks/analysis.py --threads 2
    python benchmarks/analysis.py --embedding projected --vocabulary 50000
"""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import nn

from define import DeFINE, ProjectedEmbedding
from define.measures import embedding_scalars, nearest_neighbours, similarity, word_map
from define.measures.correlation import correlations
from define.measures.layers import layers_by
from define.measures.rows import held
from define.training import peak_memory

T = TypeVar("T")

EMBEDDINGS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "standard": lambda size, width, _: nn.Embedding(size, width),
    "projected": lambda size, width, _: ProjectedEmbedding(size, width, map=128),
    "DeFINE": lambda size, width, k: DeFINE(size, width, map=128, expand_dim=k, depth=3),
}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description="Analysis of a large embedding.")
    parser.add_argument("--embedding", choices=EMBEDDINGS, default="DeFINE")
    parser.add_argument("--vocabulary", type=int, default=267_735)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--expand_dim", type=int, default=1024, help="of DeFINE")
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = arguments.vocabulary
    embedding = EMBEDDINGS[arguments.embedding](size, arguments.width, arguments.expand_dim)
    weightings = [None, 1 / torch.arange(1, size + 1)]  # each word once, and by frequency
    some = torch.arange(8) * (size // 8)
    print(f"{arguments.embedding}, {size:,} x {arguments.width}, {arguments.threads} threads")

    clock, processor = time.perf_counter(), time.process_time()
    table = measure("rows, computed once", lambda: held(embedding))
    # The last layer is the output: its correlations need no other pass.
    if not measure("layers, both weightings", lambda: layers_by(embedding, weightings))[0]:
        measure("correlations, both weightings", lambda: correlations(table, weightings))
    measure("neighbours of 8 words", lambda: nearest_neighbours(table, some))
    measure("map of 150 words", lambda: word_map(table, torch.arange(150)))
    measure("likeness to itself", lambda: similarity(table, table))
    measure("scalars of one validation", lambda: embedding_scalars(embedding))
    report("all of these", clock, processor)


def measure(name: str, work: Callable[[], T]) -> T:
    """Does some work and prints what it took."""
    clock, processor = time.perf_counter(), time.process_time()
    result = work()
    report(name, clock, processor)
    return result


def report(name: str, clock: float, processor: float) -> None:
    """Prints the time since a moment, and the peak memory."""
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = (peak_memory(torch.device("cpu")) or 0) / 2**20
    print(f"{name:<30}{clock:8.2f} s {processor:8.2f} s processor {peak:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
