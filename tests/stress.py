"""Kills, stops, damages, fills and doubles trainings of all kinds of model: `make stress`.

Every training must go on to the weights of one that nothing happened to; every damage must be
harmless, repaired or named in one line. Trainings are forks of this process, which has imported
everything, so that one takes a second. Linux alone.
"""

import argparse
import itertools
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import torch

sys.path += [str(Path(__file__).parent), str(Path(__file__).parent / "translation")]
import tiny
import tiny_pairs
from disturbances import NUMBERS, Disk, Process, damage, limit_files, signal_in_validation

import define.training.fit
import define.training.language_modeling
import define.translation.model
import define.translation.search
import define.translation.training  # noqa: F401
from define.commands import COMMANDS, load
from define.training import Run

TEXT = ("--training.epochs", "2", "--training.length", "20", "--dropout", "0.3")
EVERY_STEP = ("--training.checkpoint_minutes", "0", "--training.validations", "2")
EMBEDDING = (
    *("--embedding", "DeFINE", "--embedding.map", "8", "--embedding.expand_dim", "16"),
    *("--embedding.depth", "2", "--embedding.max_groups", "2"),
)
KILLED = set()  # kinds of operations on files at which a process was killed
MODELS = {
    "LSTM": ("text", *EMBEDDING, "--hidden_size", "8", "--num_layers", "1", *TEXT),
    "AWD-LSTM": (
        *("penn-treebank", *EMBEDDING, "--hidden_size", "8", "--num_layers", "2", *TEXT),
        *("--output_size", "8", "--training.optimizer", "define.training.AveragedSGD"),
    ),
    "Transformer-XL": (
        *("wikitext-2-transformer-xl", *EMBEDDING, "--cutoffs", "[10,30]", "--num_layers", "2"),
        *("--num_heads", "2", "--head_dim", "4", "--inner_dim", "16", "--memory_length", "9"),
        *TEXT,
    ),
    "translation": ("wmt14", "--dropout", "0.3"),
}


def command(model, root, run):
    """The arguments that train a kind of model."""
    recipe, *options = MODELS[model]
    if model == "translation":
        return tiny_pairs.arguments(root / "pairs", run.path, *options, *EVERY_STEP)
    batches = ("--training.batch_size", "4", "--training.evaluation_batch_size", "4")
    place = ("--data.path", str(root / "text"), "--run", str(run.path), "--embedding_dim", "8")
    return ["train", recipe, *place, *options, *EVERY_STEP, *batches, "--training.accelerator=cpu"]


class Failed(Exception):
    """What should not be, with what was said."""


def check(true, what, said=""):
    if not true:
        raise Failed(f"{what}\n{said[-600:]}")


class Model:
    """A kind of model with the run that nothing happened to, and one that was killed.

    Args:
        name: Of `MODELS`.
        root: Where everything goes.
        seed: Of the moments and places.
    """

    def __init__(self, name, root, seed):
        self.name, self.root = name, root
        self.draw = random.Random(f"{name} {seed}")
        root.mkdir()
        tiny.write_text(root / "text", train=60)
        tiny_pairs.write_pairs(root / "pairs", train=40)
        self.whole = self.new("whole")
        begun = time.monotonic()
        code, said = self.train(self.whole).end()
        self.seconds = time.monotonic() - begun
        check(code == 0, "a training by itself", said)
        run = self.new("counted")
        self.counted = run.path.parent
        self.train(run, Disk(self.counted).install).end()
        self.same(run)
        self.operations = (self.counted / "operations").read_text().splitlines()
        self.stopped = self.new("stopped")
        disk = Disk(self.stopped.path.parent, len(self.operations) * 2 // 3, "kill")
        self.train(self.stopped, disk.install).end()
        check(self.stopped.previous_checkpoint.exists(), "two checkpoints")

    def new(self, name):
        """A run in a folder of its own, with nothing in its cache."""
        folder = self.root / f"{name}-{next(NUMBERS)}"
        folder.mkdir()
        return Run(folder / "run")

    def copy(self, run):
        """A copy of a run and of its cache."""
        folder = self.root / f"copy-{next(NUMBERS)}"
        shutil.copytree(run.path.parent, folder)
        return Run(folder / "run")

    def train(self, run, before=None):
        return Process(command(self.name, self.root, run), run.path.parent, before)

    def goes_on(self, run):
        """The same command ends well, with the same numbers, and leaves nothing behind."""
        if not run.summary.exists():
            code, said = self.train(run).end()
            check(code == 0 and "Traceback" not in said, f"the same command ends with {code}", said)
        self.same(run)

    def same(self, run):
        check(run.weights.read_bytes() == self.whole.weights.read_bytes(), "the weights are others")
        ours, theirs = (json.loads(r.summary.read_text()) for r in (run, self.whole))
        for key in ("history", "tokens", "valid_perplexity", "test_perplexity"):
            check(ours[key] == theirs[key], f"{key}: {ours[key]} instead of {theirs[key]}")
        for pattern in ("*.partial", "*.tmp"):
            left = list(run.path.parent.rglob(pattern))
            check(not left, f"{left} is left over")


def killed_at_every_file(model, draws):
    """SIGKILL before every kind of operation on every file, and in the middle of every file.

    What other models had already is left out, but for checkpoints, weights and summary.
    """
    kinds = {}
    for number, operation in enumerate(model.operations, 1):
        kind = re.sub(r"[0-9a-f]{8,}|\d+", "", operation.replace(str(model.counted), ""))
        kinds.setdefault(kind, []).append(number)
    own = re.compile("checkpoints/|model.safetensors|summary.json")
    for operation, numbers in kinds.items():
        if operation in KILLED and not own.search(operation):
            continue
        KILLED.add(operation)
        written = operation.startswith("open") and operation.endswith(".partial")
        for how in ("kill", "tear") if written else ("kill",):
            number = model.draw.choice(numbers)
            run = model.new(how)
            disk = Disk(run.path.parent, number, how, seed=model.draw.random())
            code, said = model.train(run, disk.install).end()
            yield operation, run, code == -signal.SIGKILL, said


def killed_at_random(model, draws):
    """SIGKILL at random moments, up to three times."""
    for _ in range(draws):
        run = model.new("killed")
        for _ in range(model.draw.randint(1, 3)):
            process = model.train(run)
            process.join(model.draw.uniform(0, model.seconds))
            process.kill()
            process.end()
        yield "random", run, True, ""


def stopped(model, draws):
    """SIGTERM, SIGINT and SIGUSR1 at random moments and in validations."""
    for _, number in itertools.product(
        range(draws), (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    ):
        run = model.new("stopped")
        process = model.train(run)
        process.join(model.draw.uniform(0, model.seconds))
        if process.is_alive():
            os.kill(process.pid, number)
        code, said = process.end()
        # Before and after training a signal does what it does to any process.
        yield number.name, run, code in (0, 128 + number, -number) and "Traceback" not in said, said
        run, call = model.new("stopped"), model.draw.randint(1, 4)
        code, said = model.train(run, partial(signal_in_validation, number, call)).end()
        well = code == 128 + number and "stopped in epoch" in said and "Traceback" not in said
        yield f"{number.name} in validation {call}", run, well, said


def filled(model, draws):
    """A disk that is full from an operation on, or in the middle of a file."""
    limits = [partial(limit_files, model.draw.randrange(40_000)) for _ in range(draws)]
    numbers = model.draw.sample(range(1, len(model.operations) + 1), draws)
    for full in (*numbers, *limits):
        run = model.new("full")
        before = full if callable(full) else Disk(run.path.parent, full, "fill").install
        code, said = model.train(run, before).end()
        well = code == 0 or code == 1 and "Traceback" not in said
        yield str(full), run, well, said


def doubled(model, draws):
    """The same command twice at once: one trains, the other says so."""
    for _ in range(draws):
        run = model.new("twice")
        processes = [model.train(run)]
        time.sleep(model.draw.uniform(0, 0.3) * model.seconds)
        processes.append(model.train(run))
        found = [process.end() for process in processes]
        (first, _), (second, said) = sorted(found)
        well = first == 0 and second == 1 and "Traceback" not in said
        yield "twice", run, well and ("is in use" in said or "is a finished run" in said), said


def files_of(run):
    """All files of a run and of its cache, below the folder of both."""
    root = run.path.parent
    found = [*run.path.rglob("*"), *(root / "cache").rglob("*")]
    return [path.relative_to(root) for path in found if path.is_file() and path.suffix != ".lock"]


def damaged_while_stopped(model, draws):
    """Damage of each file of a stopped training: it goes on to the same, or it names the file."""
    for name, _ in itertools.product(files_of(model.stopped), range(draws)):
        run = model.copy(model.stopped)
        what = damage(run.path.parent / name, model.draw)
        code, said = model.train(run).end()
        if code == 1:
            yield what, None, names(said, name), said
            shutil.rmtree(run.path.parent)
        else:
            yield what, run, code == 0 and "Traceback" not in said, said


def damaged_when_finished(model, draws):
    """Damage of each file of a finished run: commands say the same, or name the file."""
    text = ["--data.path", str(model.root / ("pairs" if model.name == "translation" else "text"))]
    commands = [["evaluate", "run", *text], ["runs", "."], ["compare", "run", "--json"]]

    def say(run, arguments):
        folder = run.path.parent
        return Process(arguments, folder, partial(os.chdir, folder)).end()

    expected = [say(model.copy(model.whole), arguments) for arguments in commands]
    for name in files_of(model.whole):
        choice = model.draw.sample(list(zip(commands, expected, strict=True)), min(3, draws))
        for arguments, (_, usual) in choice:
            run = model.copy(model.whole)
            what = damage(run.path.parent / name, model.draw)
            code, said = say(run, arguments)
            well = names(said, name) if code == 1 else code == 0 and words(usual) <= words(said)
            yield f"{arguments[0]}: {what}", None, well, said
            shutil.rmtree(run.path.parent)


def names(said, name):
    """Whether one line names a file, without a traceback."""
    return "Traceback" not in said and "define: " in said and name.name in said


def words(said):
    return set(said.split())


TESTS = (
    killed_at_every_file,
    killed_at_random,
    stopped,
    filled,
    doubled,
    damaged_while_stopped,
    damaged_when_finished,
)


def attempt(model, test, draws):
    """Tried, passed; what failed is printed."""
    tried = passed = 0
    for what, run, well, said in test(model, draws):
        tried += 1
        try:
            check(well, "what it said", said)
            if run is not None:
                model.goes_on(run)
                shutil.rmtree(run.path.parent)
            passed += 1
        except (Failed, OSError, ValueError) as error:
            place = f" (kept: {run.path.parent})" if run else ""
            print(f"FAILED {model.name}, {test.__name__}, {what}: {error}{place}", flush=True)
    return tried, passed


def stress(models, tests, draws, seed, root):
    """Runs the tests and prints a table of what was tried and passed; whether all passed."""
    table = {test: [] for test in tests}
    for name in models:
        begun = time.monotonic()
        model = Model(name, root / name, seed)
        for test in tests:
            table[test].append(attempt(model, test, draws))
            print(f"{name}, {test.__name__}: {table[test][-1]}", file=sys.stderr, flush=True)
        print(f"{name}: {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    print("| tried, passed | " + " | ".join(models) + " |\n| --- |" + " ---: |" * len(models))
    for test, row in table.items():
        cells = " | ".join(f"{tried}, {passed}" for tried, passed in row)
        print(f"| {test.__name__.replace('_', ' ')} | {cells} |")
    return all(tried == passed for row in table.values() for tried, passed in row)


def options(given=None):
    """Those of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    tests = [test.__name__ for test in TESTS]
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--tests", nargs="+", default=tests, choices=tests)
    parser.add_argument("--draws", type=int, default=2, choices=range(1, 100), metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(given)


if __name__ == "__main__":
    given = options()
    torch.set_num_threads(1)
    for name in COMMANDS:
        load(name)
    folder = Path(tempfile.mkdtemp())
    chosen = [test for test in TESTS if test.__name__ in given.tests]
    if not stress(given.models, chosen, given.draws, given.seed, folder):
        sys.exit(1)
    shutil.rmtree(folder)
