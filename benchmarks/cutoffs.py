"""Time of a tied adaptive softmax by its cutoffs: chosen for the text, or in the paper's shares.

    python benchmarks/cutoffs.py --data wikitext-2-folder

Forward and backward on batches of the text, n = 96, hidden states random. All cutoffs take turns in
one process on one thread, in processor time; the ratios of medians count, not the times.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from define import AdaptiveSoftmax, AdaptiveSoftmaxCost, choose_cutoffs
from define.data import Segments, Text


def main() -> None:
    """Prints times relative to the paper's shares, measured and as the cost model has them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the text")
    parser.add_argument("--width", type=int, default=96)
    parser.add_argument("--batch_size", type=int, default=20)
    parser.add_argument("--length", type=int, default=35)
    parser.add_argument("--rounds", type=int, default=30)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = Text(options.data).open()
    words, counts = len(corpus.vocabulary), corpus.counts
    cost = AdaptiveSoftmaxCost(options.width, tokens=options.batch_size * options.length)
    # Those of WikiText-103 are 20,000, 40,000 and 200,000 of 267,735 words.
    shares = [round(words * cutoff / 267_735) for cutoff in (20_000, 40_000, 200_000)]
    candidates = {"the paper's shares": tuple(shares)}
    for bands in (2, 3, 4, 5, 6):
        candidates[f"chosen, at most {bands} bands"] = choose_cutoffs(counts, cost, bands)
    map = nn.Embedding(words, options.width)
    heads = {name: AdaptiveSoftmax(map, cutoffs=cutoffs) for name, cutoffs in candidates.items()}
    times: dict[str, list[float]] = {name: [] for name in heads}
    batches = iter(Segments(corpus.split("train"), options.batch_size, options.length))
    for turn in range(options.rounds + 2):
        _, targets = next(batches)
        hidden = torch.randn(*targets.shape, options.width, requires_grad=True)
        for name, head in heads.items():
            map.zero_grad()
            head.zero_grad()
            start = time.process_time()
            head(hidden, targets).mean().backward()
            if turn > 1:  # the first rounds warm up
                times[name].append(time.process_time() - start)
    print(
        f"V = {words}, n = {options.width}, batches {options.batch_size} x {options.length}, "
        f"torch {torch.__version__}, 1 thread"
    )
    first = next(iter(heads))
    for name, seconds in times.items():
        ratio = statistics.median(seconds) / statistics.median(times[first])
        model = cost(counts, candidates[name]) / cost(counts, candidates[first])
        print(f"  {name:<26}{ratio:5.2f} measured, {model:4.2f} expected  {candidates[name]}")


if __name__ == "__main__":
    main()
