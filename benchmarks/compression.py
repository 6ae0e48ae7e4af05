"""Tables of trained models within a number of bytes, by ours and by other methods, on their tasks.

    make benchmark  # installs them
    python benchmarks/compression.py minilm --data sts-benchmark-folder
    python benchmarks/compression.py wordllama --data sts-benchmark-folder
    python benchmarks/compression.py glove --data word-similarity-folder
    python benchmarks/compression.py smollm2 --data wikitext-2-folder

Bytes are those of everything that a method keeps: codes, scales, codebooks and matrices in float16.
Errors are weighted by counts (MiniLM, WordLlama: those of the STS training text, plus one) or by
Zipf's law (GloVe). SmolLM2's head is tied, and reads the same table. Methods that take weights are
given the counts to the power of `--power`.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import torch
from compression_tasks import NextWords, Sentences, StaticSentences, Task, Words
from torch import Tensor
from widths import widths_for_share

from define import DeFINE, RoundedEmbedding, fit_embedding
from define.compression import compress_table, stored_bytes
from define.files import write_text

Made = tuple[Tensor, int]  # what stands for the table, and its bytes
Method = Callable[[Tensor, Tensor, int], Made | None]


def ours(table: Tensor, weights: Tensor, budget: int) -> Made:
    """What `define compress` takes."""
    found = compress_table(table, weights, max_bytes=budget)
    return found.embedding.weight.detach(), found.taken.bytes


def by_outputs(task: Task) -> Method | None:
    """The same with errors weighed by what outputs make of them, as with `--text`."""
    metric = task.metric()
    if metric is None:
        return None

    def make(table: Tensor, weights: Tensor, budget: int) -> Made:
        found = compress_table(table, weights, max_bytes=budget, metric=metric)
        return found.embedding.weight.detach(), found.taken.bytes

    return make


def by_direction(table: Tensor, weights: Tensor, budget: int) -> Made:
    """Ours with errors relative to the length of each row: what cosines of single rows see."""
    return ours(table, weights / table.square().sum(1).clamp_min(1e-6), budget)


def _rounded(table: Tensor, bits: int, scale_size: int | None = None) -> Made:
    made = RoundedEmbedding.from_pretrained(table, bits=bits, scale_size=scale_size)
    return cast(Tensor, made.weight).detach(), stored_bytes(made)


def rows(bits: int, scale_size: int | None = None) -> Method:
    """Plain rows of a few bits."""

    def make(table: Tensor, weights: Tensor, budget: int) -> Made | None:
        del weights
        made = _rounded(table, bits, scale_size)
        return made if made[1] <= budget else None

    return make


def _codebooks(table: Tensor, budget: int, beside: int = 0) -> int | None:
    """The most codebooks of 256 that keep to the budget and divide the width."""
    size, width = table.shape
    room = (budget - beside - 256 * width * 2) // size
    return max((m for m in range(1, width + 1) if width % m == 0 and m <= room), default=None)


def product_codes(weighted: bool) -> Method:
    """Product quantization (Jégou et al. 2011): a k-means of 256 for each part of the columns."""
    import faiss  # pyright: ignore[reportMissingImports]

    def make(table: Tensor, weights: Tensor, budget: int) -> Made | None:
        books = _codebooks(table, budget)
        if books is None:
            return None
        parts = []
        w = (weights / weights.mean()).float().numpy() if weighted else None
        for part in table.split(table.shape[1] // books, 1):
            points = part.contiguous().numpy()
            means = faiss.Kmeans(points.shape[1], 256, niter=15, max_points_per_centroid=10**6)
            means.train(points, weights=w)
            nearest = means.index.search(points, 1)[1][:, 0]
            parts.append(torch.from_numpy(means.centroids)[torch.from_numpy(nearest)])
        return torch.cat(parts, 1), books * len(table) + 256 * table.shape[1] * 2

    return make


def rotated_product_codes(table: Tensor, weights: Tensor, budget: int) -> Made | None:
    """Optimized product quantization (Ge et al. 2013), of faiss."""
    import faiss  # pyright: ignore[reportMissingImports]

    del weights
    width = table.shape[1]
    books = _codebooks(table, budget, beside=width * width * 2)
    if books is None:
        return None
    points = table.numpy()
    rotation = faiss.OPQMatrix(width, books)
    rotation.niter, rotation.niter_pq, rotation.max_train_points = 8, 4, 20_000
    rotation.train(points)
    turned = rotation.apply(points)
    codes = faiss.ProductQuantizer(width, books, 8)
    codes.train(turned)
    made = rotation.reverse_transform(codes.decode(codes.compute_codes(turned)))  # pyright: ignore[reportCallIssue]
    size = books * len(table) + 256 * width * 2 + width * width * 2
    return torch.from_numpy(made), size


def svd(bits: int) -> Method:
    """A truncated, weighted SVD with both factors in whole numbers."""

    def make(table: Tensor, weights: Tensor, budget: int) -> Made | None:
        size, width = table.shape
        rank = int((budget - 2 * size - 8 * width) / (size * bits / 8 + width + 6))
        if rank < 1:
            return None
        rank = min(rank, width)
        w = (weights / weights.sum())[:, None]
        mean = (w * table).sum(0)
        axes = torch.linalg.eigh((w * (table - mean)).mT @ (table - mean))[1].flip(1)[:, :rank]
        left, size_left = _rounded((table - mean) @ axes, bits)
        right, size_right = _rounded(axes.mT.contiguous(), 8)
        return left @ right + mean, size_left + size_right + 2 * width

    return make


def pruned(table: Tensor, weights: Tensor, budget: int) -> Made:
    """The rows of the greatest weight in 8 bits, the mean for all others."""
    size, width = table.shape
    kept = weights.argsort(descending=True)[: (budget - 2 * width - size // 8) // (width + 2)]
    made = ((weights[:, None] * table).sum(0) / weights.sum()).expand_as(table).clone()
    made[kept], used = _rounded(table[kept], 8)
    return made, used + 2 * width + size // 8


def row_means(table: Tensor, weights: Tensor, budget: int) -> Made:
    """k-means of whole rows: each row is one of a few in 8 bits."""
    import faiss  # pyright: ignore[reportMissingImports]

    size, width = table.shape
    count = (budget - 2 * size) // (width + 2)
    points = table.numpy()
    means = faiss.Kmeans(width, count, niter=6, max_points_per_centroid=10**6)
    means.train(points, weights=(weights / weights.mean()).float().numpy())
    nearest = torch.from_numpy(means.index.search(points, 1)[1][:, 0])
    made, used = _rounded(torch.from_numpy(means.centroids), 8)
    return made[nearest], used + 2 * size


def residual_codes(table: Tensor, weights: Tensor, budget: int) -> Made | None:
    """Ours within half of the bytes, and weighted product codes of what is left."""
    first, used = ours(table, weights, budget // 2)
    rest = product_codes(weighted=True)(table - first, weights, budget - used)
    return None if rest is None else (first + rest[0], used + rest[1])


def unit(table: Tensor, weights: Tensor, budget: int) -> Made:
    """DeFINE in float32, as a fit gives it."""
    size, width = table.shape
    widths = widths_for_share(size, width, budget / (4 * table.numel()))
    embedding = DeFINE(
        size, width, map=widths.map, expand_dim=widths.expand_dim, depth=1, max_groups=1
    )
    fit_embedding(table, embedding, weights)
    return embedding.weight.detach(), stored_bytes(embedding)


def unit_on_rounded_map(table: Tensor, weights: Tensor, budget: int) -> Made | None:
    """A unit of one layer in float16 beside a Map of 4 bits; Reduce is solved for that Map."""
    size, width = table.shape
    map_dim = expand = 0
    for map_dim in range(width // 8 * 8, 7, -8):
        expand = max(width // 2, map_dim)
        left = budget - size * (map_dim // 2 + 2) - 2 * expand * map_dim
        if left >= 2 * width * (expand + map_dim + 1):
            break
    else:
        return None
    map = RoundedEmbedding(size, map_dim, bits=4)
    embedding = DeFINE(size, width, map=map, expand_dim=expand, depth=1, max_groups=1)
    fit_embedding(table, embedding, weights, rounds=4, batch_size=1024)
    stored = stored_bytes(map) + sum(2 * p.numel() for p in embedding.unit_parameters())
    embedding.expand.half().float()
    return embedding.weight.detach(), stored


METHODS: dict[str, Callable[[], Method]] = {
    "ours": lambda: ours,
    "ours by direction": lambda: by_direction,
    "int8 rows": lambda: rows(8),
    "int4 rows": lambda: rows(4),
    "int4 rows, scales for 32": lambda: rows(4, 32),
    "PQ": lambda: product_codes(weighted=False),
    "PQ, weighted": lambda: product_codes(weighted=True),
    "OPQ": lambda: rotated_product_codes,
    "SVD int8": lambda: svd(8),
    "SVD int4": lambda: svd(4),
    "pruned rows": lambda: pruned,
    "k-means of rows": lambda: row_means,
    "ours + PQ of the rest": lambda: residual_codes,
    "DeFINE float32": lambda: unit,
    "DeFINE on int4 Map": lambda: unit_on_rounded_map,
}
TASKS: dict[str, Callable[[Path, int], Task]] = {
    "minilm": Sentences,
    "wordllama": StaticSentences,
    "glove": Words,
    "smollm2": NextWords,
}
BY_OUTPUTS = "ours by outputs"


def measured(
    task: Task, names: list[str], shares: list[float], power: float
) -> Iterator[dict[str, object]]:
    """A line for each method and share."""
    table, counts = task.table, task.weights
    methods = {name: METHODS[name]() for name in names if name != BY_OUTPUTS}
    if BY_OUTPUTS in names and (method := by_outputs(task)) is not None:
        methods[BY_OUTPUTS] = method
    for share in shares:
        for name, method in methods.items():
            start = time.process_time()
            try:
                made = method(table, counts**power, int(share * 4 * table.numel()))
            except ValueError:  # too few bytes
                made = None
            if made is None:
                continue
            approximation, size = made
            off = (approximation - table).square().sum(1)
            yield {
                "method": name,
                "budget": f"1/{1 / share:g}",
                "share": round(size / (4 * table.numel()), 5),
                "error": round(float(counts @ off / (counts @ table.square().sum(1))), 4),
                "cpu_seconds": round(time.process_time() - start, 1),
                **{key: round(value, 4) for key, value in task.scores(approximation).items()},
            }


def main() -> None:
    """Prints a line for each method and share, and writes them all to a JSON file on request."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--data", type=Path, required=True, help="folder of the task")
    parser.add_argument("--shares", type=float, nargs="+", default=[1 / 8, 1 / 16, 1 / 32, 1 / 64])
    parser.add_argument(
        "--methods", nargs="+", choices=[*METHODS, BY_OUTPUTS], default=[*METHODS, BY_OUTPUTS]
    )
    parser.add_argument("--power", type=float, default=0.75, help="of the counts, as weights")
    parser.add_argument("--pairs", type=int, default=1379, help="of the STS test to score, about")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="file for all rows")
    arguments = parser.parse_args()
    if not all(0 < share <= 1 for share in arguments.shares):
        parser.error(f"--shares {arguments.shares} must be above 0 and at most 1.")
    torch.set_num_threads(1)
    torch.manual_seed(arguments.seed)
    found: list[dict[str, object]] = []

    def write() -> None:
        if arguments.json:
            write_text(arguments.json, json.dumps(found, indent=2) + "\n")

    write()  # before hours are spent
    task = TASKS[arguments.task](arguments.data, arguments.pairs)
    print(json.dumps({"method": "uncompressed", **task.scores(task.table)}), flush=True)
    for row in measured(task, arguments.methods, arguments.shares, arguments.power):
        found.append(row)
        print(json.dumps(row), flush=True)
        write()


if __name__ == "__main__":
    main()
