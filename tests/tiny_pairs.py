"""Pairs that can be learned: each word has one translation, and the order is turned round."""

import random

from define.recipes import wmt14
from define.training import Fitting, InverseSquareRoot, TransformerAdam
from define.translation import ParallelText

SOURCE = [f"{a}{b}" for a in "bdfg" for b in "aeio"]
TARGET = [f"{a}{b}" for a in "klmn" for b in "aeio"]
SIZE = 50


def write_pairs(folder, train=120, valid=12, test=15, seed=0):
    draw = random.Random(seed)
    folder.mkdir(exist_ok=True)
    for split, count in (("train", train), ("valid", valid), ("test", test)):
        rows = [[draw.randrange(16) for _ in range(draw.randint(1, 6))] for _ in range(count)]
        source = (" ".join(SOURCE[i] for i in row) + "." for row in rows)
        target = (" ".join(TARGET[i] for i in row[::-1]) + "." for row in rows)
        for language, lines in (("en", source), ("de", target)):
            (folder / f"{split}.{language}").write_text("".join(f"{line}\n" for line in lines))
    return folder


def pairs(folder, **options):
    return ParallelText(folder, vocabulary_size=options.pop("size", SIZE), **options)


def experiment(
    folder, embedding, seed=1, dropout=0.1, max_tokens=120, rate=0.003, target="de", **training
):
    settings = {
        "epochs": 2,
        "optimizer": TransformerAdam,
        "learning_rate": rate,
        "schedule": InverseSquareRoot(warmup_steps=10),
        "accelerator": "cpu",
        **training,
    }
    return wmt14(
        pairs(folder, target=target, max_length=20),
        embedding,
        embedding_dim=16,
        num_layers=1,
        num_heads=2,
        inner_dim=32,
        dropout=dropout,
        max_tokens=max_tokens,
        beams=2,
        training=Fitting(**settings),
        seed=seed,
    )


def arguments(folder, run, *more):
    """The same as a command line."""
    return [
        *("train", "wmt14", "--data.path", str(folder), "--data.vocabulary_size", str(SIZE)),
        *("--data.max_length", "20", "--run", str(run), "--embedding_dim", "16"),
        *("--num_layers", "1", "--num_heads", "2", "--inner_dim", "32", "--max_tokens", "120"),
        *("--beams", "2", "--training.epochs", "2", "--training.accelerator", "cpu", *more),
    ]
