"""The folder that a training run leaves: all that any command needs to go on from it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import nn

from define.files import atomic_write, write_text
from define.readers import open_tensors

__all__ = ["Run"]


class Run:
    """A run's folder and the names in it.

    - `config.yaml`: recipe, seed and resolved arguments;
    - `vocabulary.txt`: one word a line, by id;
    - `model.safetensors`: weights of the best validation so far;
    - `checkpoints/last.ckpt`: all that training needs to go on;
    - `logs/`: metrics as CSV and TensorBoard, one version each time training was started;
    - `summary.json`: parameters, speed, perplexities.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def vocabulary(self) -> Path:
        return self.path / "vocabulary.txt"

    @property
    def weights(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def summary(self) -> Path:
        return self.path / "summary.json"

    @property
    def begun(self) -> bool:
        """Whether a training was begun here, so that its settings stand."""
        return self.config.exists() and self.vocabulary.exists()

    @classmethod
    def open(cls, path: Path) -> "Run":
        """A run that has weights.

        Raises:
            FileNotFoundError: If something that a run consists of is missing.
        """
        run = cls(path)
        for file in (run.config, run.vocabulary, run.weights):
            if not file.is_file():
                raise FileNotFoundError(f"{run.path} is no trained run: it has no {file.name}.")
        return run

    def save_weights(self, model: nn.Module) -> None:
        """Writes the weights; a reader finds the old file or the new one, never a part."""
        state = {name: value.detach().cpu() for name, value in model.state_dict().items()}
        with atomic_write(self.weights) as draft:
            save_file({name: value.contiguous() for name, value in state.items()}, draft)

    def load_weights(self, model: nn.Module) -> None:
        """Reads the weights into a model of the same configuration.

        Raises:
            ValueError: If names or shapes differ (the first few are named), or the file is damaged.
        """
        with open_tensors(self.weights) as file:
            saved = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        state = model.state_dict()
        wrong = sorted(
            f"{name}: {tuple(a.shape) if (a := saved.get(name)) is not None else 'missing'} saved, "
            f"{tuple(b.shape) if (b := state.get(name)) is not None else 'none'} in the model"
            for name in saved.keys() | state.keys()
            if name not in saved or name not in state or saved[name].shape != state[name].shape
        )
        if wrong:
            raise ValueError(f"{self.weights} does not fit the model: {'; '.join(wrong[:3])}.")
        model.load_state_dict(saved)

    def write_json(self, file: Path, content: Mapping[str, Any]) -> None:
        """Writes a JSON file of this folder, whole or not at all."""
        write_text(file, json.dumps(content, indent=2) + "\n")
