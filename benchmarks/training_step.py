"""Time of a whole training step of the penn-treebank-small recipe, by embedding.

    python benchmarks/training_step.py --data penn-treebank-folder

Forward, backward, clipping and optimizer. All embeddings take turns in one process on one thread;
medians of processor time, of which the ratios count.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
from torch import nn

from define import DeFINE, ProjectedEmbedding
from define.data import Segments, Text
from define.recipes import penn_treebank_small
from define.recipes.embeddings import MakeEmbedding

EMBEDDINGS: dict[str, MakeEmbedding] = {
    "standard": nn.Embedding,
    "projected": lambda v, m: ProjectedEmbedding(v, m, map=96),
    "DeFINE": lambda v, m: DeFINE(v, m, map=96, expand_dim=384, depth=3, max_groups=8),
}


def main() -> None:
    """Prints tokens/s and the time relative to the standard embedding."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of the text")
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    experiments = {
        name: penn_treebank_small(Text(arguments.data), make) for name, make in EMBEDDINGS.items()
    }
    settings = next(iter(experiments.values())).training
    ids = Text(arguments.data).open().split("train")
    batches = iter(Segments(ids, settings.batch_size, settings.length))
    optimizers = {
        name: settings.optimizer(experiment.model.parameters())
        for name, experiment in experiments.items()
    }
    times: dict[str, list[float]] = {name: [] for name in experiments}
    for turn in range(arguments.rounds + 2):
        tokens, targets = next(batches)
        for name, experiment in experiments.items():
            start = time.process_time()
            optimizers[name].zero_grad()
            experiment.model(tokens, targets)[0].mean().backward()
            nn.utils.clip_grad_norm_(experiment.model.parameters(), settings.clip)
            optimizers[name].step()
            if turn > 1:  # the first rounds warm up
                times[name].append(time.process_time() - start)
    medians = {name: statistics.median(seconds) for name, seconds in times.items()}
    tokens_a_step = settings.batch_size * settings.length
    print(f"batches {settings.batch_size} x {settings.length}, torch {torch.__version__}, 1 thread")
    for name, seconds in medians.items():
        ratio = seconds / medians["standard"]
        print(f"  {name:<12}{tokens_a_step / seconds:8.0f} tokens/s {ratio:6.2f} of the time")


if __name__ == "__main__":
    main()
