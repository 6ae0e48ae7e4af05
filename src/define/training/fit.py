"""Runs a training into a run folder."""

import logging
import sys
import time
import warnings
from contextlib import nullcontext
from typing import Any, cast

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from torch import nn

from define.files import atomic_write
from define.training.experiment import Experiment
from define.training.memory import peak_memory
from define.training.module import TrainingModule
from define.training.nt_asgd import nonmonotonic
from define.training.run import Run

__all__ = ["fit"]

logger = logging.getLogger("define")


def fit(experiment: Experiment, run: Run) -> dict[str, Any]:
    """Trains a model, or goes on from the run's checkpoint.

    Args:
        experiment: What to train, and how; afterwards its model has the weights of the best
            validation.
        run: Where weights, checkpoints and logs go.

    Returns:
        What training found out: tokens seen and the seconds that took, the peak of memory in bytes,
        the history of validations, and the perplexity of weights that it started from.

    Raises:
        NonFiniteLossError: If the loss becomes NaN or infinite; weights and checkpoint stay as
            they were before.
        ValueError: If there is no such accelerator.
        SystemExit: With several devices, in all processes but the first, once training is over.
    """
    training = experiment.training
    torch.manual_seed(experiment.seed)
    # Not trainer.estimated_stepping_batches: it sets up the loader too early, and then a run that
    # resumes in its first epoch begins the text anew.
    steps = training.epochs * len(experiment.train_batches(0, training.devices))
    resuming = run.checkpoint.is_file()
    # Weights that training starts from may stay the best.
    measured_first = experiment.start_from is not None and not resuming
    progress = _Progress(run, training.checkpoint_minutes, training.patience)
    csv = CSVLogger(run.path, name="logs")
    tensorboard = TensorBoardLogger(
        run.path, name="logs", version=csv.version, default_hp_metric=False
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings():
        # Batches are slices of a mapped file: there is nothing for workers to do.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # On purpose: checkpoints are ours to write, see _Progress.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
        # A text of less than 50 batches has validations in its logs, which is enough.
        warnings.filterwarnings("ignore", message="The number of training batches")
        # Lightning 2.6 on torch 2.13.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        try:
            trainer = pl.Trainer(
                max_epochs=training.epochs,
                accelerator=training.accelerator,
                devices=training.devices,
                # Words of a band that no token of a device's batch falls in get no gradient there.
                strategy="ddp_find_unused_parameters_true" if training.devices > 1 else "auto",
                precision=training.precision,  # pyright: ignore[reportArgumentType]
                gradient_clip_val=training.clip or None,
                val_check_interval=1.0 / training.validations,
                num_sanity_val_steps=-1 if measured_first else 0,
                log_every_n_steps=50,
                logger=[csv, tensorboard],
                callbacks=[
                    progress,
                    LearningRateMonitor("step"),
                    _display(run),
                    _Measured(experiment),
                ],
                enable_checkpointing=False,
                enable_progress_bar=sys.stdout.isatty(),
                enable_model_summary=False,
                use_distributed_sampler=False,  # it would shuffle the text
                reload_dataloaders_every_n_epochs=1,  # else the first epoch's length stays
            )
        except MisconfigurationException as error:  # an accelerator that is not there, for example
            raise ValueError(str(error)) from error
        trainer.fit(
            experiment.training_module(steps),
            datamodule=_Batches(experiment),
            ckpt_path=run.checkpoint if resuming else None,
            weights_only=False,
        )
    if not trainer.is_global_zero:
        raise SystemExit  # Lightning started this process only to train
    run.load_weights(experiment.model)
    return progress.state_dict()


def _display(run: Run) -> pl.Callback:
    """A progress bar in a terminal, and lines anywhere else."""
    return TQDMProgressBar(refresh_rate=20) if sys.stdout.isatty() else _Lines(run.path.name)


class _Lines(pl.Callback):
    """Logs how training goes, five lines an epoch."""

    def __init__(self, name: str) -> None:
        self._name = name

    def on_train_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        done, steps = batch_idx + 1, int(trainer.num_training_batches)
        if done % max(1, steps // 5) == 0:
            loss = trainer.callback_metrics["train_loss"].item()
            self._log(trainer, f"{done / steps:4.0%}, loss {loss:.2f}")

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        perplexity = trainer.callback_metrics["valid_perplexity"].item()
        when = " before the first step" if trainer.sanity_checking else ""
        self._log(trainer, f"validation perplexity {perplexity:.2f}{when}")

    def _log(self, trainer: pl.Trainer, text: str) -> None:
        epoch = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
        logger.info("%s: %s, %s", self._name, epoch, text)


class _Measured(pl.Callback):
    """Logs numbers of the model at each validation."""

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment

    def on_validation_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not trainer.sanity_checking:
            pl_module.log_dict(dict(self._experiment.measurements()), sync_dist=True)


class _Batches(pl.LightningDataModule):
    """Makes the loaders once the trainer knows which rank this process is.

    The training loader is made once: it counts its epochs. Its position goes into checkpoints
    from here: Lightning loads it too, but takes the number of batches before.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self._train, self._valid = experiment.train_batches, experiment.valid_batches
        self._made: Any = None
        self._position: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return self._made.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict

    def train_dataloader(self) -> Any:  # noqa: ANN401
        if self._made is None:
            self._made = self._make(self._train)
            if self._position is not None:
                self._made.load_state_dict(self._position)
        return self._made

    def val_dataloader(self) -> Any:  # noqa: ANN401
        return self._make(self._valid)

    def _make(self, batches: Any) -> Any:  # noqa: ANN401
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("The batches are asked for outside of training.")
        return batches(trainer.global_rank, trainer.world_size)


class _Progress(pl.Callback):
    """Keeps the best weights, the last checkpoint and the history, and measures the speed."""

    def __init__(self, run: Run, checkpoint_minutes: float, patience: int) -> None:
        self._run = run
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
        self.tokens += cast(TrainingModule, pl_module).count_tokens(batch) * trainer.world_size
        # Resuming is exact only from the end of a batch that no validation follows: Lightning 2.6
        # skips that validation then, and mistakes an epoch's end if the next one is longer.
        done = batch_idx + 1
        if done % (trainer.val_check_batch or 1) == 0 or done == trainer.num_training_batches:
            return
        due = time.monotonic() - self._saved >= self._interval
        due = due or (batch_idx == 0 and trainer.current_epoch > 0)
        if trainer.strategy.reduce_boolean_decision(due, all=False):  # on all devices or none
            self._save(trainer)

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
            if trainer.is_global_zero:
                self._run.save_weights(cast(nn.Module, pl_module.model))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._save(trainer)

    def _save(self, trainer: pl.Trainer) -> None:
        peak = peak_memory(trainer.strategy.root_device)
        self.peak_memory = max(filter(None, (self.peak_memory, peak)), default=None)
        path = self._run.checkpoint
        path.parent.mkdir(exist_ok=True)
        # All devices take part in saving, one of them writes.
        with atomic_write(path) if trainer.is_global_zero else nullcontext(path) as draft:
            trainer.save_checkpoint(draft)
        self._saved = time.monotonic()
