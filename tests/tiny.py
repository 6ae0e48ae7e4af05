"""A text that can be learned, and models so small that their training takes half a second."""

import functools
import os
import random
from contextlib import contextmanager

import torch

from define.data import Text
from define.embedding import DeFINE
from define.recipes import text
from define.training import NTASGD, Training

WORDS = [f"w{i:02}" for i in range(48)]


class Killed(Exception):
    """Stands for what ends a process: none of our code catches it."""


def write_text(folder, train=200, seed=0):
    """A text of 10 tokens a line: after each word comes the next one, in a circle."""
    draw = random.Random(seed)
    folder.mkdir(exist_ok=True)
    for split, lines in (("train", train), ("valid", 25), ("test", 20)):
        starts = [draw.randrange(48) for _ in range(lines)]
        rows = (" ".join(WORDS[(start + i) % 48] for i in range(9)) for start in starts)
        (folder / f"{split}.txt").write_text("".join(f"{row}\n" for row in rows))
    return folder


def small_define(num_embeddings, embedding_dim):
    return DeFINE(num_embeddings, embedding_dim, map=8, expand_dim=16, depth=2, max_groups=2)


def experiment(folder, embedding=small_define, seed=1, dropout=0.0, cutoffs=(), **training):
    """A recipe's experiment at the smallest scale; see `Training` for the settings."""
    settings = {
        "epochs": 1,
        "batch_size": 4,
        "length": 5,
        "evaluation_batch_size": 4,
        "accelerator": "cpu",
        **training,
    }
    return text(
        Text(folder),
        embedding=embedding,
        embedding_dim=8,
        hidden_size=8,
        num_layers=1,
        dropout=dropout,
        cutoffs=cutoffs,
        embedding_std=0.4,
        training=Training(**settings),
        seed=seed,
    )


def arguments(folder, run, *more, recipe="text"):
    """The same as a command line."""
    return [
        *("train", recipe, "--data.path", str(folder), "--run", str(run)),
        *("--embedding_dim", "8", "--hidden_size", "8", "--num_layers", "1", "--dropout", "0"),
        *("--embedding", "DeFINE", "--embedding.map", "8", "--embedding.expand_dim", "16"),
        *("--embedding.depth", "2", "--embedding.max_groups", "2", "--training.epochs", "1"),
        *("--training.batch_size", "4", "--training.length", "5"),
        *("--training.evaluation_batch_size", "4", "--training.accelerator", "cpu", *more),
    ]


def averaging_from(validation):
    """Makes NT-ASGD that begins to average after so many validations, whatever they find."""

    class Averaging(NTASGD):
        def observe(self, loss):
            super().observe(loss)
            if len(self.param_groups[0]["validations"]) == validation:
                self.param_groups[0]["averaged"] = 0

    return functools.partial(Averaging, weight_decay=0.0, nonmonotone=10**6)


def checkpoint_of(run):
    """What a run's last checkpoint holds."""
    return torch.load(run.checkpoint, weights_only=True)


@contextmanager
def cache_in(folder):
    """Nothing that is built lands in the user's cache."""
    before = os.environ.get("DEFINE_CACHE")
    os.environ["DEFINE_CACHE"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["DEFINE_CACHE"]
        else:
            os.environ["DEFINE_CACHE"] = before
