"""What training says while it runs, and what is logged of the model."""

import logging
import shutil
import sys
import time
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import lightning.pytorch as pl

from define.training.experiment import Experiment
from define.training.module import TrainingModule
from define.training.run import Run

__all__ = ["Measured", "display"]

logger = logging.getLogger("define")


_CLEAR = "\r\x1b[K"  # this line of a terminal


def display(run: Run) -> pl.Callback:
    """Says how training goes, on standard error."""
    return _Lines(run.path.name, sys.stderr.isatty())


class _Lines(pl.Callback):
    """Five lines an epoch, or one that changes in a terminal; speed and time are of this start."""

    def __init__(self, name: str, changes: bool) -> None:
        self._name, self._changes = name, changes
        self._started, self._said, self._batches, self._tokens = 0.0, 0.0, 0, 0

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
        now = time.monotonic()
        if now - self._said > 0.5 if self._changes else done % max(1, steps // 5) == 0:
            self._said = now
            loss = trainer.callback_metrics["train_loss"].item()
            seconds = max(now - self._started, 1e-3)
            ahead = steps * (cast(int, trainer.max_epochs) - trainer.current_epoch) - done
            left = timedelta(seconds=round(seconds / self._batches * ahead))
            rate = trainer.optimizers[0].param_groups[0]["lr"]
            speed = f"{self._tokens / seconds:,.0f} tokens/s, {left} left"
            text = f"{done / steps:4.0%}, loss {loss:.2f}, rate {rate:.2g}, {speed}"
            self._say(trainer, text, self._changes)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        perplexity = trainer.callback_metrics["valid_perplexity"].item()
        when = " before the first step" if trainer.sanity_checking else ""
        self._say(trainer, f"validation perplexity {perplexity:.2f}{when}")

    def _say(self, trainer: pl.Trainer, text: str, changes: bool = False) -> None:
        text = f"{self._name}: epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, {text}"
        if self._changes and trainer.is_global_zero:
            shown = text[: shutil.get_terminal_size().columns - 1] if changes else ""
            with suppress(OSError):  # a terminal that is gone
                print(_CLEAR + shown, end="", file=sys.stderr, flush=True)
        if not changes:
            logger.info(text)


class Measured(pl.Callback):
    """Logs numbers of the model at each validation."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log_dict(dict(self._experiment.measurements()), sync_dist=True)
