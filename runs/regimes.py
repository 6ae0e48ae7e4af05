"""Which embedding is best at equal numbers of parameters, all tuned alike, by regime.

    python runs/regimes.py ptb-adam --data PENN_TREEBANK               # search, then full length
    python runs/regimes.py ptb-adam --data PENN_TREEBANK --methods adaptive projected --epochs 3
    python runs/regimes.py table                                       # what was found

Each method gets the width with which the whole model has at most `--budget` million parameters.
One epoch chooses learning rate, then unit rate, then initial scale on validation, from the same
values for all; the best of each trains for the regime's epochs. Test is read at the end of a run.

Every run adds one line of JSON to `runs/regimes.jsonl` (`--results`); what is there is not run
again, and a run that was stopped goes on after its last epoch. One process, one thread; several
processes may share the results.
"""

import argparse
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from methods import METHODS, Task
from torch import Tensor, nn

from define import LSTM, AdaptiveSoftmax, LanguageModel, TransformerXL
from define.data import Segments, Text
from define.dropout import drop_words
from define.embedding import (
    approximate,
    bands,
    count_vectors,
    parameter_groups,
    tied_table,
    unit_parameters,
)
from define.embedding.target import check_target
from define.files import atomic_write
from define.modes import evaluating
from define.recipes.wikitext import WIKITEXT_103_CUTOFFS
from define.training import Cosine, StepDecay, peak_memory
from define.training.adam import FusedAdam
from define.training.schedule import Schedule

FOUND = Path(__file__).with_name("regimes.jsonl")


@dataclass(frozen=True)
class Regime:
    """A text, a backbone and a way to train: what all methods of a comparison share.

    Args:
        backbone: Makes the context model from the width of its input.
        cutoffs: First id of each further band of the adaptive softmax, and of adaptive tables.
        budgets: Millions of parameters of the whole model.
        epochs: Those of a full run.
        learning_rates: Values to choose from, the first one to start with; so for the next two.
        unit_rates: Factors on the rate of what rows are computed with.
        stds: Standard deviations of tables and rows at initialization.
        optimizer: Makes the optimizer from groups of parameters.
        schedule: Of the learning rate.
        batch_size: Columns of text.
        length: Tokens a segment.
        clip: Largest norm of the gradient.
        word_dropout: Probability that a word is dropped from the input.
        embedding_dim: Width m of the embedding.
        edges: First ids of bands that are measured beside those of `cutoffs`.
        precision: Of float32 products on a CPU (`torch.set_float32_matmul_precision`); a GPU has
            `"high"`, TF32, as its LSTMs have by default.
    """

    backbone: Callable[[int], nn.Module]
    cutoffs: tuple[int, ...]
    budgets: tuple[float, ...]
    epochs: int
    learning_rates: tuple[float, ...]
    unit_rates: tuple[float, ...] = (0.1, 1.0)
    stds: tuple[float, ...] = (0.2, 0.4)
    optimizer: Callable[..., torch.optim.Optimizer] = FusedAdam
    schedule: Schedule = Cosine()
    batch_size: int = 20
    length: int = 35
    clip: float = 0.25
    word_dropout: float = 0.05
    embedding_dim: int = 200
    edges: tuple[int, ...] = (10,)
    precision: str = "highest"


def lstm(input_size: int) -> LSTM:
    """The context model of `penn-treebank-small`: 2 layers of 200."""
    return LSTM(
        input_size,
        200,
        2,
        output_size=200,
        dropout=0.2,
        input_dropout=0.2,
        output_dropout=0.2,
        weight_dropout=0.2,
    )


def transformer_xl(input_size: int) -> nn.Module:
    """The context model of `wikitext-2-transformer-xl`."""
    if input_size != 200:
        raise ValueError(f"{input_size=} must be 200: a Transformer-XL has one width.")
    return TransformerXL(
        200, 4, num_heads=4, head_dim=50, inner_dim=1000, memory_length=70, input_scale=200**0.5
    )


def wide_transformer_xl(input_size: int) -> nn.Module:
    """The context model of `wikipedia-transformer-xl-small`: 4.3 M parameters."""
    if input_size != 256:
        raise ValueError(f"{input_size=} must be 256: a Transformer-XL has one width.")
    return TransformerXL(
        256, 5, num_heads=4, head_dim=64, inner_dim=1024, memory_length=70, input_scale=16.0
    )


def wide_lstm(input_size: int) -> LSTM:
    """The context model of `wikipedia-lstm-small`: 4.2 M parameters."""
    return LSTM(input_size, 768, 2, output_size=256, dropout=0.1)


REGIMES = {
    "ptb-adam": Regime(lstm, (1000, 3500), (1.06, 1.6), 15, (0.008, 0.004, 0.012)),
    "ptb-sgd": Regime(
        lstm,
        (1000, 3500),
        (1.06,),
        15,
        (20.0, 10.0, 30.0),
        optimizer=torch.optim.SGD,
        schedule=StepDecay((0.75,), 0.1),
    ),
    "wikitext-2-lstm": Regime(lstm, (2500, 10_000), (1.8, 3.9), 6, (0.008, 0.004, 0.012)),
    "wikitext-2-transformer-xl": Regime(
        transformer_xl,
        (2500, 10_000),
        (3.3, 5.4),
        6,
        (0.001, 0.0005, 0.002),
        stds=(0.05, 0.02),
        batch_size=10,
        length=70,
        word_dropout=0.0,
        precision="medium",  # a third less time on processors with bfloat16 instructions
    ),
}

# 267,735 words: one epoch over `--share` of the text, budgets that give the shapes of Table 1a.
_WIKIPEDIA = Regime(
    wide_lstm,
    WIKITEXT_103_CUTOFFS,
    (13.46, 13.91),
    1,
    (0.002, 0.004),
    length=70,
    word_dropout=0.0,
    embedding_dim=256,
    edges=(10, 1000),
)
# The same and a Transformer-XL over the whole text, in batches that fill a GPU.
_WHOLE = replace(
    _WIKIPEDIA,
    budgets=(13.46,),
    learning_rates=(0.002, 0.004, 0.001),
    schedule=Cosine(warmup=0.05),
    batch_size=64,
)
REGIMES |= {
    "wikipedia-lstm": _WIKIPEDIA,
    "wikipedia-lstm-sgd": replace(
        _WIKIPEDIA,
        learning_rates=(20.0, 10.0),
        optimizer=torch.optim.SGD,
        schedule=StepDecay((0.75,), 0.1),
    ),
    "wikipedia-lstm-25m": _WHOLE,
    "wikipedia-transformer-xl-25m": replace(
        _WHOLE,
        backbone=wide_transformer_xl,
        budgets=(13.5,),
        learning_rates=(0.001, 0.0005, 0.002),
        stds=(0.02, 0.05),
    ),
}


@dataclass(frozen=True)
class Run:
    """What tells one line of the results from all others."""

    regime: str
    budget: float
    method: str
    learning_rate: float
    unit_rate: float
    std: float
    epochs: int
    seed: int = 1
    share: float = 1.0  # of the training text
    start: str = "random"  # or "text"; "shrunk": from the text, rows of rare words shorter

    @property
    def name(self) -> str:
        return "-".join(str(value) for value in asdict(self).values())


def about(data: Text) -> dict[str, int]:
    """What tells a text from others under the name of the same regime; older lines lack it."""
    corpus = data.open()
    return {"tokens": len(corpus.split("train")), "words": len(corpus.vocabulary.words)}


def vectors(task: Task, embedding_dim: int, folder: Path) -> Tensor:
    """Vectors counted in the text: once for all runs, the others wait for them."""
    text = f"{len(task.ids)}-{int(task.ids.sum(dtype=torch.int64))}"  # unlike for another text
    file = folder / f"vectors-{task.num_embeddings}-{embedding_dim}-{text}.pt"
    with FileLock(f"{file}.lock"):
        if not file.exists():
            with atomic_write(file) as draft:
                torch.save(count_vectors(task.ids, task.num_embeddings, embedding_dim), draft)
        return torch.load(file, weights_only=True)


def build(run: Run, task: Task, width: int, folder: Path) -> LanguageModel:
    """The model of a run, its embedding `width` wide; counted vectors are kept in `folder`."""
    regime, method = REGIMES[run.regime], METHODS[run.method]
    embedding: Any = method.make(task, width)
    if run.start != "random":
        rows = vectors(task, embedding.embedding_dim, folder) * task.std
        if run.start == "shrunk":
            counts = task.ids.bincount(minlength=task.num_embeddings)
            rows *= (counts / (counts + 100.0)).sqrt()[:, None]
        with torch.no_grad():
            approximate(embedding, check_target(rows, embedding, None))
    tied = tied_table(embedding) if method.tie == "map" else embedding
    cutoffs = None if bands(tied) else regime.cutoffs
    backbone: Any = regime.backbone(embedding.embedding_dim)
    first = method.tie == "first band"
    head = AdaptiveSoftmax(
        tied, backbone.output_size, cutoffs, first_band_only=first, bias=method.bias
    )
    if head.bias is not None and run.start != "random":
        counts = task.ids.bincount(minlength=task.num_embeddings) + 1.0
        for bias, count in zip(
            head.bias.data.split(head.sizes), counts.split(head.sizes), strict=True
        ):
            bias.copy_(count.log() - count.log().mean())
    return LanguageModel(embedding, backbone, head)


def widest(run: Run, task: Task, folder: Path) -> int:
    """The largest width with which the model stays within the budget."""
    low, high = 0, len(METHODS[run.method].widths)
    widths, drawn = METHODS[run.method].widths, replace(run, start="random")
    while low < high:
        middle = (low + high) // 2
        if _count(build(drawn, task, widths[middle], folder)) > run.budget * 1e6:
            high = middle
        else:
            low = middle + 1
    if low == 0:
        raise ValueError(f"{run.method=} has no width within {run.budget=} million parameters.")
    return widths[low - 1]


def _count(model: nn.Module) -> int:
    """Numbers to store: parameters, and what is not trained but cannot be left out."""
    stored = sum(int(getattr(part, "stored", 0)) for part in model.modules())
    return sum(parameter.numel() for parameter in model.parameters()) + stored


@torch.no_grad()
def evaluate(
    model: LanguageModel,
    batches: Iterable[tuple[Tensor, Tensor]],
    regime: Regime,
    device: torch.device,
) -> dict[str, Any]:
    """Perplexity of a text, and by the frequency of the word to predict."""
    edges = torch.tensor((*regime.edges, *regime.cutoffs))
    sums, counts = torch.zeros(2, len(edges) + 1, dtype=torch.float64)
    state = None
    with evaluating(model):
        for tokens, targets in batches:
            nll, state = model(tokens.to(device), targets.to(device), state)
            kept = targets >= 0
            band = torch.bucketize(targets[kept], edges, right=True)
            sums.index_add_(0, band, nll.cpu()[kept].double())
            counts += torch.bincount(band, minlength=len(counts))
    perplexities = (sums / counts).exp()
    return {
        "perplexity": round((sums.sum() / counts.sum()).exp().item(), 2),
        "bands": [round(value, 1) for value in perplexities.tolist()],
    }


def train(run: Run, data: Text, saved: Path, device: torch.device) -> dict[str, Any]:
    """Trains one model and measures it; goes on from `saved`, its last epoch, if it was stopped."""
    regime, corpus = REGIMES[run.regime], data.open()
    ids = corpus.split("train")
    ids = ids[: round(len(ids) * run.share)]
    task = Task(corpus.vocabulary.words, ids, regime.embedding_dim, regime.cutoffs, run.std)
    torch.manual_seed(run.seed)
    width = widest(run, task, saved.parent)
    torch.manual_seed(run.seed)
    model = build(run, task, width, saved.parent).to(device)
    if regime.word_dropout:
        drop_words(model.embedding, regime.word_dropout)
    groups = parameter_groups(model, run.learning_rate, run.unit_rate)
    peaks = [group["lr"] for group in groups]
    optimizer = regime.optimizer(groups, lr=run.learning_rate)

    segments = Segments(ids, regime.batch_size, regime.length)
    places = {"valid": corpus.split("valid"), "test": corpus.split("test"), "train": ids[:80_000]}
    texts = {
        split: Segments(text, regime.batch_size, regime.length, drop_last=False)
        for split, text in places.items()
    }
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    steps = run.epochs * len(segments)
    warm = METHODS[run.method].warm * steps  # steps in which units stay as they are
    done: dict[str, Any] = {"epoch": 0, "history": [], "seconds": 0.0}
    text = about(data)
    if saved.exists():
        done = torch.load(saved, weights_only=True)
        if (found := done.get("text", text)) != text:
            raise ValueError(f"{saved} is of another text ({found}, not {text}): remove it.")
        model.load_state_dict(done["model"])
        optimizer.load_state_dict(done["optimizer"])
        torch.set_rng_state(done["random"])
        if device.type == "cuda":
            torch.cuda.set_rng_state(done["random_gpu"], device)
    for epoch in range(done["epoch"], run.epochs):
        state, total, started = None, torch.zeros((), device=device), clock()
        for step, (tokens, targets) in enumerate(segments, epoch * len(segments)):
            factor = regime.schedule.factor(step, steps)
            for i, (group, peak) in enumerate(zip(optimizer.param_groups, peaks, strict=True)):
                group["lr"] = 0.0 if i and step < warm else peak * factor
            nll, state = model(tokens.to(device), targets.to(device), state)
            loss = nll.mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), regime.clip)
            optimizer.step()
            total += loss.detach()
        mean = round(math.exp(min(float(total) / len(segments), 99.0)), 2)
        done["seconds"] += clock() - started
        found = evaluate(model, texts["valid"], regime, device)["perplexity"]
        done["history"].append({"train": mean, "valid": found})
        print(f"{run.name}: epoch {epoch + 1}, train {mean}, valid {found}", flush=True)
        done |= {
            "epoch": epoch + 1,
            "text": text,
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": torch.get_rng_state(),
        }
        if device.type == "cuda":
            done["random_gpu"] = torch.cuda.get_rng_state(device)
        with atomic_write(saved) as draft:
            torch.save(done, draft)
    measured = {split: evaluate(model, batches, regime, device) for split, batches in texts.items()}
    return {
        **asdict(run),
        **text,
        "width": width,
        "parameters": _count(model),
        "unit": sum(p.numel() for p in unit_parameters(model)),
        **{split: values["perplexity"] for split, values in measured.items()},
        "bands": {split: values["bands"] for split, values in measured.items()},
        "history": done["history"],
        "seconds": round(done["seconds"]),
        "peak_mib": (peak_memory(device) or 0) >> 20,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        "commit": _commit(),
        "torch": torch.__version__,
    }


def _commit() -> str:
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    return subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()


def known(file: Path | None = None) -> list[dict[str, Any]]:
    """All results so far.

    Raises:
        ValueError: If a line is none: a full disk cut it off, for example.
    """
    file, found = file or FOUND, []
    for number, line in enumerate(file.read_text().splitlines() if file.exists() else (), 1):
        try:
            found.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}, line {number} is no result ({error}): remove it.") from error
    return found


@dataclass(frozen=True)
class Place:
    """Where runs find their text, and leave what they found.

    Args:
        data: The text.
        results: One line of JSON for each run.
        checkpoints: Folder of what a stopped run goes on from.
        device: Where models are trained.
    """

    data: Text
    results: Path
    checkpoints: Path
    device: torch.device


def result(run: Run, place: Place) -> dict[str, Any]:
    """The result of a run, found in the file or by training."""
    text = about(place.data)
    for line in known(place.results):
        ours = all(line[key] == value for key, value in asdict(run).items())
        if ours and all(line.get(key, value) == value for key, value in text.items()):
            return line
    saved = place.checkpoints / f"{run.name}.pt"
    line = train(run, place.data, saved, place.device)
    with place.results.open("a") as file:
        file.write(json.dumps(line) + "\n")
    saved.unlink()  # only now: hours are in it
    return line


def tune(run: Run, place: Place) -> Run:
    """The best of one epoch: learning rate first, then unit rate, then scale."""
    regime = REGIMES[run.regime]
    best = replace(run, epochs=1)
    for name, values in (
        ("learning_rate", regime.learning_rates),
        ("unit_rate", regime.unit_rates),
        ("std", regime.stds),
    ):
        if name == "unit_rate" and not result(best, place)["unit"]:
            continue  # nothing has this rate
        tries = [replace(best, **{name: value}) for value in values]
        best = min(tries, key=lambda tried: _or_worst(result(tried, place)["valid"]))
    return best


def _or_worst(perplexity: float) -> float:
    return perplexity if math.isfinite(perplexity) else math.inf


def table(file: Path | None = None) -> str:
    """All results in Markdown, the best of each regime, budget and length first."""
    names = (
        "regime | epochs | method | start | total M | rate | unit | scale | seed | train | valid"
    )
    lines = [f"| {names} | test | test by band |", "| --- " * 13 + "|"]
    order = ("regime", "share", "epochs", "budget", "valid")
    for r in sorted(known(file), key=lambda r: [r[key] for key in order]):
        share = "" if r["share"] == 1 else f" ({r['share']:g} of the text)"
        cells = [r["regime"] + share, r["epochs"], r["method"], r["start"]]
        cells += [f"{r['parameters'] / 1e6:.2f}", r["learning_rate"], r["unit_rate"], r["std"]]
        cells += [r["seed"], *(f"{r[split]:.1f}" for split in ("train", "valid", "test"))]
        cells.append(" / ".join(f"{value:,.0f}" for value in r["bands"]["test"]))
        lines.append(f"| {' | '.join(str(cell) for cell in cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> None:
    """Runs what is asked for, or prints the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("regime", choices=[*REGIMES, "table"])
    parser.add_argument("--data", type=Path, help="folder of the text")
    parser.add_argument("--evaluation", type=Path, help="that of valid and test, if another")
    parser.add_argument("--vocabulary", type=Path, help="its words by falling frequency")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--budget", type=float, help="millions of parameters; all by default")
    parser.add_argument("--epochs", type=int, help="of the full runs; the regime's by default")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--share", type=float, default=1.0, help="of the training text, its start")
    parser.add_argument("--start", choices=("random", "text", "shrunk"), default="random")
    parser.add_argument("--no_search", action="store_true", help="the first rates for all")
    parser.add_argument("--learning_rate", type=float, help="without search, instead of the first")
    parser.add_argument("--unit_rate", type=float, help="the same")
    parser.add_argument("--std", type=float, help="the same")
    parser.add_argument("--checkpoints", type=Path, default=Path("runs/checkpoints"))
    parser.add_argument("--results", type=Path, default=FOUND, help="file of JSON lines")
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    if chosen.regime == "table":
        if not chosen.results.is_file():
            parser.error(f"--results {chosen.results} is no file.")
        print(table(chosen.results))
        return
    for name in ("budget", "epochs", "share", "learning_rate", "unit_rate", "std"):
        value = getattr(chosen, name)
        if value is not None and not 0 < value <= (1 if name == "share" else math.inf):
            most = " and at most 1" if name == "share" else ""
            parser.error(f"--{name} {value} must be above 0{most}.")
    if chosen.data is None:
        parser.error(f"--data is needed to run {chosen.regime}.")
    for name in () if chosen.no_search else ("learning_rate", "unit_rate", "std"):
        if getattr(chosen, name) is not None:
            parser.error(f"--{name} is searched for: add --no_search.")
    data = Text(chosen.data, vocabulary=chosen.vocabulary, evaluation=chosen.evaluation)
    torch.set_num_threads(1)
    place = Place(data, chosen.results, chosen.checkpoints, torch.device(chosen.device))
    for folder in (chosen.checkpoints, chosen.results.parent):
        folder.mkdir(parents=True, exist_ok=True)
    known(place.results)  # whether it can be read, and written
    place.results.open("a").close()
    regime, failed = REGIMES[chosen.regime], False
    precision = "high" if place.device.type == "cuda" else regime.precision
    torch.set_float32_matmul_precision(precision)
    for budget in [chosen.budget] if chosen.budget else regime.budgets:
        for method in chosen.methods:
            run = Run(
                chosen.regime,
                budget,
                method,
                chosen.learning_rate or regime.learning_rates[0],
                chosen.unit_rate or regime.unit_rates[0],
                chosen.std or regime.stds[0],
                epochs=1,
                share=chosen.share,
                start=chosen.start,
            )
            try:
                if not chosen.no_search:
                    run = tune(run, place)
                for seed in chosen.seeds:
                    full = replace(run, epochs=chosen.epochs or regime.epochs, seed=seed)
                    found = result(full, place)
                    said = f"valid {found['valid']}, test {found['test']}, in {place.results}"
                    print(f"{full.name}: {said}", flush=True)
            except ValueError as error:  # no width fits, for example: others may
                print(f"{method}: {error}", file=sys.stderr, flush=True)
                failed = True
    if failed:
        sys.exit(1)


if __name__ == "__main__":
    main()
