"""Time of embedding + output layer, forward and backward, against a standard tied embedding.

    python benchmarks/step.py --data penn-treebank-folder

One step is: look up a batch of tokens (m = 400), take their embeddings as hidden states, and the
gradient of the mean loss on the next tokens. What stands between in a model is left out. All
methods take turns in one process on one thread; the ratios of medians count, not the times.
"""

import argparse
import statistics
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from define import AdaptiveSoftmax, DeFINE, ProjectedEmbedding, TiedSoftmax
from define.data import PyDocs, Segments, Text

EMBEDDING_DIM = 400
BATCHES = ((20, 70), (60, 140))
CUTOFFS = (2000, 5000)


STD = 0.1  # embeddings and hidden states of moderate size, as in an LSTM


class PerToken(nn.Module):
    """DeFINE without its once-per-distinct-id path."""

    def __init__(self, embedding: DeFINE) -> None:
        super().__init__()
        self.embedding = embedding

    def forward(self, ids: Tensor) -> Tensor:  # noqa: D102
        return self.embedding.rows(ids.flatten()).unflatten(0, ids.shape)


class CrossEntropy(nn.Module):
    """The usual tied output layer: all logits of the batch at once."""

    def __init__(self, embedding: nn.Embedding) -> None:
        super().__init__()
        self.embedding = embedding
        self.bias = nn.Parameter(torch.zeros(embedding.num_embeddings))

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        logits = F.linear(hidden, self.embedding.weight, self.bias)
        return F.cross_entropy(logits.flatten(0, -2), targets.flatten())


class TorchAdaptive(nn.Module):
    """torch's own adaptive softmax, which can't be tied."""

    def __init__(self, num_embeddings: int) -> None:
        super().__init__()
        self.softmax = nn.AdaptiveLogSoftmaxWithLoss(EMBEDDING_DIM, num_embeddings, [*CUTOFFS])

    def forward(self, hidden: Tensor, targets: Tensor) -> Tensor:  # noqa: D102
        return self.softmax(hidden.flatten(0, -2), targets.flatten()).loss


def methods(num_embeddings: int) -> dict[str, tuple[nn.Module, nn.Module]]:
    """Embedding and output layer of each method; the first is what the others are compared to."""

    def standard() -> nn.Embedding:
        embedding = nn.Embedding(num_embeddings, EMBEDDING_DIM)
        nn.init.normal_(embedding.weight, std=STD)
        return embedding

    def define(max_groups: int) -> DeFINE:
        return DeFINE(
            num_embeddings,
            EMBEDDING_DIM,
            map=128,
            expand_dim=1024,
            depth=7,
            max_groups=max_groups,
            std=STD,
        )

    def full(embedding: nn.Module) -> TiedSoftmax:
        return TiedSoftmax(getattr(embedding, "map", embedding), EMBEDDING_DIM)

    table, chunked = standard(), standard()
    projected = ProjectedEmbedding(num_embeddings, EMBEDDING_DIM, map=128, std=STD)
    per_token, few, many, adaptive = define(128), define(16), define(128), define(128)
    return {
        "standard, tied, full cross-entropy": (table, CrossEntropy(table)),
        "standard, tied, in chunks": (chunked, full(chunked)),
        "standard, torch's untied adaptive softmax": (standard(), TorchAdaptive(num_embeddings)),
        "projected n 128, in chunks": (projected, full(projected)),
        "DeFINE n 128 g 128, per token, in chunks": (PerToken(per_token), full(per_token)),
        "DeFINE n 128 g 16, in chunks": (few, full(few)),
        "DeFINE n 128 g 128, in chunks": (many, full(many)),
        "DeFINE n 128 g 128, tied adaptive softmax": (
            adaptive,
            AdaptiveSoftmax(adaptive.map, EMBEDDING_DIM, CUTOFFS),
        ),
    }


def main() -> None:
    """Prints a table of ratios for each batch shape."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of a text; pydocs if omitted")
    parser.add_argument("--rounds", type=int, default=7)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    corpus = (Text(arguments.data) if arguments.data else PyDocs()).open()
    num_embeddings = len(corpus.vocabulary)
    print(f"V = {num_embeddings}, m = {EMBEDDING_DIM}, torch {torch.__version__}, 1 thread")
    for batch_size, length in BATCHES:
        batches = iter(Segments(corpus.split("train"), batch_size, length))
        candidates = methods(num_embeddings)
        times: dict[str, list[float]] = {name: [] for name in candidates}
        tokens_per_id = 0.0
        for turn in range(arguments.rounds + 1):
            tokens, targets = next(batches)
            tokens_per_id += tokens.numel() / len(tokens.unique()) / (arguments.rounds + 1)
            for name, (embedding, head) in candidates.items():
                embedding.zero_grad()
                head.zero_grad()
                start = time.perf_counter()
                head(embedding(tokens), targets).mean().backward()
                if turn:  # the first round warms up
                    times[name].append(time.perf_counter() - start)
        print(f"\nbatch {batch_size} x {length}, {tokens_per_id:.1f} tokens a distinct id")
        baseline = statistics.median(next(iter(times.values())))
        for name, seconds in times.items():
            print(f"  {name:<44}{statistics.median(seconds) / baseline:6.2f}")


if __name__ == "__main__":
    main()
