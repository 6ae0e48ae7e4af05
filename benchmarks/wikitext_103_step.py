"""Time and memory of a training step of Transformer-XL at WikiText-103's vocabulary (Table 2).

    python benchmarks/wikitext_103_step.py --counts wikitext-103/dict.txt.xz
    python benchmarks/wikitext_103_step.py --device cuda --batch_size 60 --precision bfloat16

Rows of Table 2 against the first, V = 267,735: forward, backward, clipping and Adam, memory carried
over. Each model lives in a process of its own, so that its peak memory is its own, and they take
turns on the same batches: the ratio of medians counts. On a CPU, time is processor time. The paper
has 855 ms for n = 384, 600 for n = 128, 606 with DeFINE.
"""

import argparse
import multiprocessing
import statistics
import time
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from define import AdaptiveEmbedding, AdaptiveSoftmax, DeFINE, LanguageModel
from define.readers import read_lines
from define.recipes.models import transformer_xl
from define.training import FusedAdam, peak_memory

NUM_EMBEDDINGS = 267_735
TOKENS, LINES = 103_227_021, 1_801_350  # of WikiText-103's training text
CUTOFFS = (20_000, 40_000, 200_000)


ROWS = ("n 384", "n 128", "n 128 + DeFINE", "n 128 + DeFINE, both sides")


def model_of(name: str, layers: int, length: int, max_groups: int) -> LanguageModel:
    """A row of Table 2; `both sides` ties the output to what the unit computes."""
    map_dim = 384 if name == "n 384" else 128
    make = partial(AdaptiveEmbedding, cutoffs=CUTOFFS, map_dim=map_dim, div_value=1)
    unit = partial(DeFINE, expand_dim=4096, max_groups=max_groups, activation=nn.ReLU)
    model = transformer_xl(
        NUM_EMBEDDINGS,
        partial(unit, map=make) if "DeFINE" in name else make,
        depth=layers,
        inner_dim=1920,
        memory_length=length,
    )
    if "both" in name:
        head = AdaptiveSoftmax(model.embedding, cutoffs=CUTOFFS, bias=True, cluster_bias=True)
        model = LanguageModel(model.embedding, model.backbone, head)
    return model


def frequencies(file: Path | None) -> Tensor:
    """How often each id occurs: counts of a file of lines ``word count``, else Zipf's law."""
    if file is None:
        return 1 / torch.arange(1.0, NUM_EMBEDDINGS + 1, dtype=torch.float64)
    known = [int(line.rpartition(" ")[2]) for line in read_lines(file)]
    known = [count for count in known if count]  # the rest are made up
    unknown = TOKENS - LINES - sum(known)
    return torch.tensor(sorted((LINES, unknown, *known), reverse=True), dtype=torch.float64)


def work(pipe: Connection, name: str, options: argparse.Namespace) -> None:
    """Does a step for each batch that comes, and answers with its times; at the end, the memory."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    device = torch.device(options.device)
    model = model_of(name, options.layers, options.length, options.max_groups).to(device)
    make = FusedAdam if options.optimizer == "FusedAdam" else torch.optim.Adam
    optimizer = make(model.parameters(), lr=0.00025)
    pipe.send(model.parameter_counts().total)
    if options.compile:
        model.backbone.compile()
    state = None

    def now() -> float:
        if device.type == "cpu":
            return time.process_time()  # whatever else the machine does
        torch.cuda.synchronize()
        return time.perf_counter()

    while (batch := pipe.recv()) is not None:
        tokens, targets = (torch.from_numpy(part).to(device) for part in batch)
        start = now()
        with torch.autocast(device.type, torch.bfloat16, options.precision == "bfloat16"):
            nll, state = model(tokens, targets, state)
        forward = now()
        optimizer.zero_grad()
        nll.mean().backward()
        backward = now()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        optimizer.step()
        pipe.send((forward - start, backward - forward, now() - backward))
    pipe.send(peak_memory(device))


def answer(pipe: Connection, name: str) -> Any:  # noqa: ANN401
    """What a process sends; the end of all, if it has ended."""
    try:
        return pipe.recv()
    except EOFError:
        raise SystemExit(f"{name}: its process ended; for lack of memory?") from None


def main() -> None:
    """Prints times, their ratio and peak memory."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--counts", type=Path, help="lines `word count`; Zipf's law if omitted")
    parser.add_argument("--batch_size", type=int, default=4)
    parser.add_argument("--length", type=int, default=150, help="tokens a segment, and of memory")
    parser.add_argument("--layers", type=int, default=16)
    parser.add_argument("--max_groups", type=int, default=128, help="of DeFINE")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=["n 384", "n 128 + DeFINE"])
    parser.add_argument("--compile", action="store_true", help="torch.compile of the context model")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument(
        "--optimizer",
        choices=("FusedAdam", "Adam"),
        default="FusedAdam",
        help="that of the recipes, or torch's ordinary Adam, which favours small tables",
    )
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be at least 1.")
    draw = torch.Generator().manual_seed(0)
    weights = frequencies(options.counts)
    context = multiprocessing.get_context("spawn")
    workers: dict[str, Connection] = {}
    for name in options.rows:
        ours, theirs = context.Pipe()
        context.Process(target=work, args=(theirs, name, options), daemon=True).start()
        theirs.close()  # else nobody would learn that the process has ended
        workers[name] = ours
    totals = {name: answer(pipe, name) for name, pipe in workers.items()}

    times: dict[str, list[tuple[float, ...]]] = {name: [] for name in workers}
    for turn in range(options.rounds + 2):
        size = options.batch_size * (options.length + 1)
        ids = torch.multinomial(weights, size, replacement=True, generator=draw)
        ids = ids.view(options.batch_size, -1)
        for name, pipe in workers.items():
            pipe.send((ids[:, :-1].numpy(), ids[:, 1:].numpy()))
            parts = answer(pipe, name)
            if turn > 1:  # the first rounds warm up, and have no whole memory
                times[name].append(parts)
    print(
        f"{options.layers} layers, batches {options.batch_size} x {options.length}, "
        f"{options.precision} on {options.device}, {options.optimizer}, "
        f"{'compiled' if options.compile else 'eager'}, "
        f"torch {torch.__version__}, {options.threads} thread(s), medians of {options.rounds} "
        "rounds"
    )
    medians = []
    for name, pipe in workers.items():
        pipe.send(None)
        memory = answer(pipe, name)
        forward, backward, update = (
            statistics.median(part) for part in zip(*times[name], strict=True)
        )
        medians.append(statistics.median(sum(parts) for parts in times[name]))
        print(
            f"  {name:<28}{totals[name] / 1e6:7.1f} M parameters{medians[-1] * 1e3:9.0f} ms a step "
            f"(forward {forward * 1e3:.0f}, backward {backward * 1e3:.0f}, clipping and Adam "
            f"{update * 1e3:.0f}), ratio {medians[-1] / medians[0]:.2f}, "
            f"peak memory {memory / 2**30:.2f} GiB"
        )


if __name__ == "__main__":
    main()
