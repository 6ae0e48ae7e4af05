"""Translation by two processes is what one process does."""

import json

import ranks
import torch
from safetensors.torch import load_file
from tiny_pairs import arguments, write_pairs

from define.__main__ import main
from define.training import Run


def test_two_processes_train_what_one_does(tmp_path):
    folder = write_pairs(tmp_path / "pairs")
    # Plain descent: Adam would turn the rounding of a sum into steps of full size.
    more = ("--dropout", "0", "--training.optimizer", "torch.optim.SGD", "--training.clip", "0")
    more = (*more, "--training.learning_rate", "0.1", "--training.schedule", "Constant")
    runs = [Run(tmp_path / name) for name in ("one", "two", "shared")]
    main(arguments(folder, runs[0].path, *more))
    ranks.train(folder, runs[1], *more, make=arguments)
    shared = ("--training.shard_parameters", "true")
    ranks.train(folder, runs[2], *more, *shared, make=arguments)
    one, two, three = (load_file(run.weights) for run in runs)
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(three[name], expected, rtol=0, atol=1e-4)
    one, two, _ = (json.loads(run.summary.read_text()) for run in runs)
    assert one["tokens"] == two["tokens"]
    assert abs(one["valid_perplexity"] / two["valid_perplexity"] - 1) < 1e-5
