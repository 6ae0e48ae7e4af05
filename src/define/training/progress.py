"""What a training keeps: best weights, checkpoints, history, speed."""

import logging
import time
from typing import Any, cast

import lightning.pytorch as pl
import torch
from torch import nn

from define.training.memory import peak_memory
from define.training.module import TrainingModule
from define.training.nt_asgd import nonmonotonic
from define.training.run import Run
from define.training.sharding import whole
from define.training.stopping import Stopped, StopSignals

__all__ = ["Progress"]

logger = logging.getLogger("define")


class Progress(pl.Callback):
    """Keeps the best weights, the last checkpoint and the history, and measures the speed.

    Args:
        run: Where they go.
        checkpoint_minutes: See `Fitting`.
        patience: See `Fitting`.
        signals: Those that ask to stop, looked at after each step.
    """

    def __init__(
        self, run: Run, checkpoint_minutes: float, patience: int, signals: StopSignals
    ) -> None:
        self._run = run
        self._signals = signals
        self._patience = patience
        self._interval = 60 * checkpoint_minutes
        self._saved = time.monotonic()
        self._started = 0.0
        self.tokens = 0
        self.seconds = 0.0
        self.best = float("inf")
        self.stopped = False
        self.peak_memory: int | None = None  # over all starts of the run
        self.history: list[tuple[int, float]] = []  # tokens seen, validation perplexity
        self.start_perplexity: float | None = None  # of weights that training started from

    @property
    def state_key(self) -> str:
        return "_Progress"  # its name in checkpoints, whatever the class is called

    def state_dict(self) -> dict[str, Any]:
        return {
            "tokens": self.tokens,
            "seconds": self.seconds,
            "best": self.best,
            "stopped": self.stopped,
            "peak_memory": self.peak_memory,
            "history": [list(point) for point in self.history],
            "start_perplexity": self.start_perplexity,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.tokens = state_dict["tokens"]
        self.seconds = state_dict["seconds"]
        self.best = state_dict["best"]
        self.stopped = state_dict["stopped"]
        self.peak_memory = state_dict.get("peak_memory")  # older checkpoints lack it
        self.start_perplexity = state_dict.get("start_perplexity")
        self.history = [(tokens, perplexity) for tokens, perplexity in state_dict["history"]]

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop = self.stopped  # before it was killed
        _validate_between_batches(trainer)
        self._signals.install()
        self._signals.waiting = True
        if self.tokens and not self.stopped:
            name, place = self._run.path.name, _place(trainer)
            logger.info("%s: goes on after %s.", name, place)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        _validate_between_batches(trainer)

    def on_train_batch_start(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        self._started = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        self.seconds += time.perf_counter() - self._started
        done, parts = batch_idx + 1, trainer.accumulate_grad_batches
        if done % parts:
            return
        self.tokens += cast(TrainingModule, pl_module).count_tokens(batch)
        # Resuming is exact only from the end of a batch that no validation follows: Lightning 2.6
        # skips that validation then, and mistakes an epoch's end if the next one is longer.
        if done % (trainer.val_check_batch or 1) == 0 or done == trainer.num_training_batches:
            return
        due = time.monotonic() - self._saved >= self._interval
        due = due or (done == parts and trainer.current_epoch > 0)
        due = due or self._signals.received is not None
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # on all devices or none
            self._save(trainer)
            self._stop_if_asked(trainer)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        perplexity = trainer.callback_metrics["valid_perplexity"].item()
        if trainer.sanity_checking:
            self.start_perplexity = perplexity
        else:
            before = [p for _, p in self.history]
            self.history.append((self.tokens, perplexity))
            if self._patience and nonmonotonic(before, perplexity, self._patience):
                self.stopped = trainer.should_stop = True
        score = cast(TrainingModule, pl_module).score()
        if score < self.best:
            self.best = score
            weights = whole(cast(nn.Module, pl_module.model).state_dict().items())
            if trainer.is_global_zero:
                self._run.save_weights(weights)

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)
        self._stop_if_asked(trainer)
        self._signals.waiting = False

    def _stop_if_asked(self, trainer: pl.Trainer) -> None:
        asked = torch.tensor(self._signals.received or 0, device=trainer.strategy.root_device)
        number = int(trainer.strategy.reduce(asked, reduce_op="max"))
        if number:  # for one process, or for all of them
            raise Stopped(number, f"in {_place(trainer)}")

    def _save(self, trainer: pl.Trainer) -> None:
        peak = peak_memory(trainer.strategy.root_device)
        self.peak_memory = max(filter(None, (self.peak_memory, peak)), default=None)
        self._run.checkpoint.parent.mkdir(exist_ok=True)
        trainer.save_checkpoint(self._run.checkpoint)  # see RunCheckpoints
        self._saved = time.monotonic()


def _place(trainer: pl.Trainer) -> str:
    return f"epoch {trainer.current_epoch + 1}, step {trainer.global_step}"


def _validate_between_batches(trainer: pl.Trainer) -> None:
    """Lets no validation come between the parts of a batch, which Lightning counts one by one."""
    parts, interval = trainer.accumulate_grad_batches, trainer.val_check_batch or 1
    trainer.val_check_batch = max(parts, int(interval) // parts * parts)
