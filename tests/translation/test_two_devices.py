"""Translation by two processes is what one process does."""

import json
import os
import subprocess
import sys

import torch
from safetensors.torch import load_file
from tiny_pairs import arguments, write_pairs


def test_two_processes_train_what_one_does(tmp_path):
    folder = write_pairs(tmp_path / "pairs")
    # Plain descent: Adam would turn the rounding of a sum into steps of full size.
    more = ("--dropout", "0", "--training.optimizer", "torch.optim.SGD", "--training.clip", "0")
    more = (*more, "--training.learning_rate", "0.1", "--training.schedule", "Constant")
    shared = ("--training.shard_parameters", "true")
    for name, devices, *how in (("1", 1), ("2", 2), ("shared", 2, *shared)):
        command = arguments(folder, tmp_path / name, *more, *how)
        subprocess.run(
            [sys.executable, "-m", "define", *command, "--training.devices", str(devices)],
            check=True,
            timeout=900,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
    one, two, three = (
        load_file(tmp_path / name / "model.safetensors") for name in ("1", "2", "shared")
    )
    for name, expected in one.items():
        torch.testing.assert_close(two[name], expected, rtol=0, atol=1e-6)
        torch.testing.assert_close(three[name], expected, rtol=0, atol=1e-4)
    one, two = (json.loads((tmp_path / name / "summary.json").read_text()) for name in "12")
    assert one["tokens"] == two["tokens"]
    assert abs(one["valid_perplexity"] / two["valid_perplexity"] - 1) < 1e-5
