"""How a model is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import nn

__all__ = ["Training"]


@dataclass(frozen=True)
class Training:
    """How a language model is trained.

    Args:
        epochs: Passes over the training text.
        batch_size: Columns of text read side by side, over all devices.
        length: Tokens a segment, the reach of truncated backpropagation through time.
        random_lengths: Whether segment lengths vary as in AWD-LSTM.
        optimizer: Makes the optimizer from the parameters.
        learning_rate: Its learning rate at the end of warm-up.
        warmup: Share of all steps in which the learning rate rises linearly from 0.
        final: Share of the learning rate that is left at the end of the cosine after warm-up; 1
            keeps it constant.
        clip: Largest norm of the gradient; 0 does not clip.
        evaluation_batch_size: Columns of text in validation.
        validations: Validations per epoch.
        precision: Lightning's name of the number format: "32-true", "bf16-mixed".
        accelerator: Lightning's name of the kind of device: "auto", "cpu", "gpu".
        devices: Number of devices; each takes its share of `batch_size`.
        checkpoint_minutes: Time between checkpoints to resume from; there is one at the start of
            each further epoch and at the end too.
        log_correlation: Whether each validation also logs the mean |correlation| between the
            embedding's dimensions and its effective rank, over the most frequent words.
    """

    epochs: int = 5
    batch_size: int = 20
    length: int = 35
    random_lengths: bool = False
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = torch.optim.Adam
    learning_rate: float = 0.002
    warmup: float = 0.1
    final: float = 0.0
    clip: float = 0.25
    evaluation_batch_size: int = 20
    validations: int = 1
    precision: str = "32-true"
    accelerator: str = "auto"
    devices: int = 1
    checkpoint_minutes: float = 5.0
    log_correlation: bool = False

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "length", "evaluation_batch_size", "validations"):
            if (value := getattr(self, name)) < 1:
                raise ValueError(f"{name}={value} must be at least 1.")
        if self.learning_rate <= 0:
            raise ValueError(f"learning_rate={self.learning_rate} must be above 0.")
        if not 0 <= self.warmup < 1 or not 0 <= self.final <= 1 or self.clip < 0:
            raise ValueError(
                f"warmup={self.warmup} must be in [0, 1), final={self.final} in [0, 1] and "
                f"clip={self.clip} at least 0."
            )
        if self.devices < 1 or self.batch_size % self.devices:
            raise ValueError(f"devices={self.devices} must divide batch_size={self.batch_size}.")
