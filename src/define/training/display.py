"""What training says while it runs, and what is logged of the model."""

import logging
import sys
import time
from datetime import timedelta
from typing import Any, cast

import lightning.pytorch as pl
from lightning.pytorch.callbacks import TQDMProgressBar

from define.training.experiment import Experiment
from define.training.module import TrainingModule
from define.training.run import Run

__all__ = ["Measured", "display"]

logger = logging.getLogger("define")


def display(run: Run) -> pl.Callback:
    """A progress bar in a terminal, and lines anywhere else."""
    return TQDMProgressBar(refresh_rate=20) if sys.stdout.isatty() else _Lines(run.path.name)


class _Lines(pl.Callback):
    """Logs how training goes, five lines an epoch; speed and time left are of this start."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._started, self._batches, self._tokens = 0.0, 0, 0

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        parts = trainer.accumulate_grad_batches
        done, steps = (batch_idx + 1) // parts, int(trainer.num_training_batches) // parts
        if (batch_idx + 1) % parts:
            return
        self._batches += 1
        self._tokens += cast(TrainingModule, pl_module).count_tokens(batch)
        if done % max(1, steps // 5) == 0:
            loss = trainer.callback_metrics["train_loss"].item()
            seconds = max(time.monotonic() - self._started, 1e-3)
            ahead = steps * (cast(int, trainer.max_epochs) - trainer.current_epoch) - done
            left = timedelta(seconds=round(seconds / self._batches * ahead))
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            speed = f"{self._tokens / seconds:,.0f} tokens/s, {left} left"
            self._log(trainer, f"{done / steps:4.0%}, loss {loss:.2f}, rate {rate:.2g}, {speed}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        perplexity = trainer.callback_metrics["valid_perplexity"].item()
        when = " before the first step" if trainer.sanity_checking else ""
        self._log(trainer, f"validation perplexity {perplexity:.2f}{when}")

    def _log(self, trainer: pl.Trainer, text: str) -> None:
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        logger.info("%s: %s, %s", self._name, epoch, text)


class Measured(pl.Callback):
    """Logs numbers of the model at each validation."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log_dict(dict(self._experiment.measurements()), sync_dist=True)
