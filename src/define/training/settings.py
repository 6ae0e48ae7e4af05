"""How a model is trained."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import nn

from define.training.adam import FusedAdam
from define.training.schedule import Cosine, Schedule

__all__ = ["MACHINE", "Fitting", "Training"]

MatmulPrecision = Literal["highest", "high", "medium"]

MACHINE = (
    "precision",
    "float32_matmul_precision",
    "accelerator",
    "devices",
    "accumulate_grad_batches",
    "shard_parameters",
    "checkpoint_minutes",
)
"""Settings of the machine: a run goes on with others."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How any model is fitted.

    Args:
        epochs: Passes over the training data.
        optimizer: Makes the optimizer from the parameters.
        learning_rate: Its learning rate, whatever the optimizer's own default is.
        schedule: What it is multiplied by at each step.
        unit_rate: Factor on the learning rate for what embeddings compute from their Map: the unit
            of DeFINE, the matrix of a projected embedding. One step of Adam there moves all words
            at once, in proportion to the width that is read.
        clip: Largest norm of the gradient; 0 does not clip.
        validations: Validations per epoch: one after each whole N-th part of its batches. Where N
            does not divide them there are more of them, and none at the end of the epoch.
        patience: Ends training once a validation is worse than the best of those more than this
            many validations before it; 0 never does.
        precision: Lightning's name of the number format: "32-true", "bf16-mixed".
        float32_matmul_precision: Of float32 matrix products while training, as torch names it:
            "highest", "high" or "medium"; as it is if omitted. The guide says what it does on
            which processor.
        accelerator: Lightning's name of the kind of device: "auto", "cpu", "gpu".
        devices: Number of devices, which share each batch.
        accumulate_grad_batches: Parts of each device's share of a batch, computed one after the
            other before the step: less memory for the same gradient. A part is what a further
            device would have: neighbouring columns of text, each with a state of its own, or each
            so many-th pair of sentences.
        shard_parameters: Whether devices share parameters, gradients and state of the optimizer
            (FSDP2) instead of each holding all: for tables that are large beside their memory.
        checkpoint_minutes: Time between checkpoints to resume from; there is one at the start of
            each further epoch and at the end too.
    """

    epochs: int = 5
    optimizer: Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer] = FusedAdam
    learning_rate: float = 0.002
    schedule: Schedule = Cosine()
    unit_rate: float = 1.0
    clip: float = 0.25
    validations: int = 1
    patience: int = 0
    precision: str = "32-true"
    float32_matmul_precision: MatmulPrecision | None = None
    accelerator: str = "auto"
    devices: int = 1
    accumulate_grad_batches: int = 1
    shard_parameters: bool = False
    checkpoint_minutes: float = 5.0

    def __post_init__(self) -> None:
        self._check_from(1, "epochs", "validations", "devices", "accumulate_grad_batches")
        for name in ("learning_rate", "unit_rate"):
            if not (value := getattr(self, name)) > 0:  # nor NaN
                raise ValueError(f"{name}={value} must be above 0.")
        self._check_from(0, "clip", "patience")
        names = get_args(MatmulPrecision)
        if (found := self.float32_matmul_precision) not in (None, *names):
            raise ValueError(f"float32_matmul_precision={found!r} must be one of {names}.")

    def _check_from(self, least: int, *names: str) -> None:
        for name in names:
            if not (value := getattr(self, name)) >= least:
                raise ValueError(f"{name}={value} must be at least {least}.")


@dataclass(frozen=True, kw_only=True)
class Training(Fitting):
    """How a language model is trained: by truncated backpropagation through columns of text.

    Args:
        batch_size: Columns of text read side by side, over all devices.
        length: Tokens a segment, the reach of truncated backpropagation through time.
        random_lengths: Whether segment lengths vary as in AWD-LSTM, and the learning rate of each
            step with them: it is that of the schedule at a segment of `length`.
        activation_regularization: Factor alpha of the mean square of the backbone's dropped
            output, added to the loss (AR).
        temporal_activation_regularization: Factor beta of the mean square of the steps in time of
            the output before dropout, added to the loss (TAR).
        evaluation_batch_size: Columns of text in validation.
        start_from_text: Whether the embedding starts from which words stand beside which in the
            training text instead of at random, see :func:`~define.start_from_text`.
        log_correlation: Whether each validation also logs the mean absolute correlation between
            the embedding's dimensions and its effective rank, over the most frequent words.
        **fitting: See `Fitting`.
    """

    batch_size: int = 20
    length: int = 35
    random_lengths: bool = False
    activation_regularization: float = 0.0
    temporal_activation_regularization: float = 0.0
    evaluation_batch_size: int = 20
    start_from_text: bool = False
    log_correlation: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_from(1, "batch_size", "length", "evaluation_batch_size")
        self._check_from(0, "activation_regularization", "temporal_activation_regularization")
        self.check_parts(self.devices)

    def check_parts(self, devices: int) -> None:
        """Raises a `ValueError` if devices and the parts that they work in divide no batch."""
        if self.batch_size % (devices * (parts := self.accumulate_grad_batches)):
            more = f" times accumulate_grad_batches={parts}" if parts > 1 else ""
            raise ValueError(f"{devices=}{more} must divide batch_size={self.batch_size}.")
