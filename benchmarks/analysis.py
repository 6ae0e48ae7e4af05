"""How long the analysis of a large embedding takes, and in how much memory.

Draws an embedding anew and measures each part of the analysis in one process: time on the clock, of
the processor, and the peak resident memory so far. The table of DeFINE is never held as a whole.

    python benchmarks/analysis.py --threads 2
    python benchmarks/analysis.py --embedding projected --vocabulary 50000
"""

import argparse
import resource
import time
from collections.abc import Callable

import torch
from torch import nn

from define import DeFINE, ProjectedEmbedding
from define.analysis import (
    correlation,
    embedding_scalars,
    layer_correlations,
    nearest_neighbours,
    similarity,
    word_map,
)

EMBEDDINGS: dict[str, Callable[[int, int], nn.Module]] = {
    "standard": nn.Embedding,
    "projected": lambda size, width: ProjectedEmbedding(size, width, map=128),
    "DeFINE": lambda size, width: DeFINE(size, width, map=128, expand_dim=1024, depth=3),
}


def main() -> None:
    """Runs the benchmark."""
    parser = argparse.ArgumentParser(description="Analysis of a large embedding.")
    parser.add_argument("--embedding", choices=EMBEDDINGS, default="DeFINE")
    parser.add_argument("--vocabulary", type=int, default=267_735)
    parser.add_argument("--width", type=int, default=384)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--layers", action="store_true", help="the layers within, too")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    size = arguments.vocabulary
    embedding = EMBEDDINGS[arguments.embedding](size, arguments.width)
    frequencies = 1 / torch.arange(1, size + 1)
    some = torch.arange(8) * 1000
    print(f"{arguments.embedding}, {size:,} x {arguments.width}, {arguments.threads} threads")
    measure("start (imports, parameters)", lambda: None)
    measure("correlation, each word once", lambda: correlation(embedding))
    measure("correlation by frequency", lambda: correlation(embedding, frequencies))
    measure("neighbours of 8 words", lambda: nearest_neighbours(embedding, some))
    measure("map of 150 words", lambda: word_map(embedding, torch.arange(150)))
    measure("likeness to itself", lambda: similarity(embedding, embedding))
    measure("scalars of one validation", lambda: embedding_scalars(embedding))
    if arguments.layers:
        measure("layers", lambda: layer_correlations(embedding))


def measure(name: str, work: Callable[[], object]) -> None:
    """Does some work and prints what it took."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    clock, processor = time.perf_counter() - clock, time.process_time() - processor
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{name:<30}{clock:8.2f} s {processor:8.2f} s processor {peak:8.0f} MB", flush=True)


if __name__ == "__main__":
    main()
