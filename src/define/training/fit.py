"""Runs a training into a run folder."""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

from define.data.position import BatchesInParts
from define.training.checkpoint import RunCheckpoints
from define.training.display import Measured, display
from define.training.experiment import Experiment
from define.training.placement import Placement
from define.training.progress import Progress
from define.training.run import Run
from define.training.settings import Fitting
from define.training.sharding import SharedParameters
from define.training.stopping import Stopped, StopSignals

__all__ = ["fit"]

# What gloo and NCCL say of a peer that ended.
_GONE = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe")


def fit(experiment: Experiment, run: Run, signals: StopSignals) -> dict[str, Any]:
    """Trains a model, or goes on from the run's checkpoint.

    Args:
        experiment: What to train, and how; afterwards its model has the weights of the best
            validation.
        run: Where weights, checkpoints and logs go.
        signals: Those that ask to stop.

    Returns:
        What training found out: tokens seen and the seconds that took, the peak of memory in bytes,
        the history of validations, and the perplexity of weights that it started from.

    Raises:
        NonFiniteLossError: If the loss becomes NaN or infinite; weights and checkpoint stay as
            they were before.
        ValueError: If there is no such accelerator, or no checkpoint of the run is whole or fits.
        Stopped: If a signal asked for it; all is saved.
        ConnectionError: If another process of the training is gone.
        SystemExit: With several devices, in all processes but the first, once training is over.
    """
    training = experiment.training
    # Not trainer.estimated_stepping_batches: it sets up the loader too early, and then a run that
    # resumes in its first epoch begins the text anew.
    placement = Placement.of(training)
    world_size = placement.world_size
    torch.manual_seed(experiment.seed + placement.rank)  # dropout of its own for each process
    steps = training.epochs * len(experiment.train_batches(0, world_size))
    shared = training.shard_parameters and world_size > 1
    # The model of the experiment stays whole: it is measured in the end, by one process.
    trained = replace(experiment, model=deepcopy(experiment.model)) if shared else experiment
    module = trained.training_module(steps)
    checkpoints = RunCheckpoints(run)
    checkpoints.check_fits(module.state_dict())
    if checkpoints.validated or (checkpoints.found is not None and run.weights.exists()):
        run.read_weights(experiment.model)  # the best of before may stay the best: are they whole?
    # Weights that training starts from may stay the best.
    measured_first = experiment.start_from is not None and checkpoints.found is None
    progress = Progress(run, training.checkpoint_minutes, training.patience, signals)
    # Words of a band that no token of a device's batch falls in get no gradient there.
    strategy = "ddp_find_unused_parameters_true" if world_size > 1 else "auto"
    csv = CSVLogger(run.path, name="logs")
    tensorboard = TensorBoardLogger(
        run.path, name="logs", version=csv.version, default_hp_metric=False
    )
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    with warnings.catch_warnings(), _quiet_threads(), _products(training):
        # Batches are slices of a mapped file: there is nothing for workers to do.
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")
        # On purpose: checkpoints are ours to write, see RunCheckpoints.
        warnings.filterwarnings("ignore", message="Checkpoint directory .* exists")
        # Lightning 2.6 on torch 2.13.
        warnings.filterwarnings("ignore", message=".*LeafSpec.* is deprecated")
        try:
            trainer = pl.Trainer(
                max_epochs=training.epochs,
                accelerator=training.accelerator,
                devices=placement.devices,
                num_nodes=placement.nodes,
                accumulate_grad_batches=training.accumulate_grad_batches,
                strategy=SharedParameters(world_size) if shared else strategy,
                precision=training.precision,  # pyright: ignore[reportArgumentType]
                gradient_clip_val=training.clip or None,
                val_check_interval=1.0 / training.validations,
                num_sanity_val_steps=-1 if measured_first else 0,
                log_every_n_steps=max(1, min(50, steps // training.epochs // 2)),
                logger=[csv, tensorboard],
                plugins=[checkpoints],
                callbacks=[
                    progress,
                    LearningRateMonitor("step"),
                    display(run),
                    Measured(experiment),
                ],
                enable_checkpointing=False,
                enable_progress_bar=False,  # `display` says more
                enable_model_summary=False,
                use_distributed_sampler=False,  # it would shuffle the text
                reload_dataloaders_every_n_epochs=1,  # else the first epoch's length stays
            )
        except (MisconfigurationException, ModuleNotFoundError) as error:  # no such accelerator
            raise ValueError(str(error)) from error
        try:
            trainer.fit(module, datamodule=_Batches(experiment), ckpt_path=checkpoints.path)
        except Stopped as stopped:
            if not trainer.is_global_zero:
                raise SystemExit(stopped.code) from None  # the first process says it
            raise
        except RuntimeError as error:
            if world_size > 1 and any(word in str(error) for word in _GONE):
                what = str(error).splitlines()[0]
                raise ConnectionError(
                    f"Another process of this training is gone ({what})."
                ) from error
            raise
    if not trainer.is_global_zero:
        raise SystemExit  # this process is there only to train
    run.load_weights(experiment.model)
    return progress.state_dict()


@contextmanager
def _products(training: Fitting) -> Iterator[None]:
    """Sets how float32 is multiplied, which is a setting of the whole process."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(training.float32_matmul_precision or before)
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Prints no traceback where TensorBoard's thread finds the disk full: training says it."""
    before = threading.excepthook

    def note(found: threading.ExceptHookArgs) -> None:
        if not isinstance(found.exc_value, OSError):
            before(found)

    threading.excepthook = note
    try:
        yield
    finally:
        threading.excepthook = before


class _Batches(pl.LightningDataModule):
    """Makes the loaders once the trainer knows which rank this process is.

    The training loader is made once: it counts its epochs. Its position goes into checkpoints
    from here: Lightning loads it too, but takes the number of batches before.
    """

    def __init__(self, experiment: Experiment) -> None:
        super().__init__()
        self._experiment = experiment
        self._made: Any = None
        self._position: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return self._made.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._position = state_dict

    def train_dataloader(self) -> Any:  # noqa: ANN401
        if self._made is None:
            parts = self._experiment.training.accumulate_grad_batches
            rank, world_size = self._place()
            self._made = BatchesInParts(
                [
                    self._experiment.train_batches(rank * parts + part, world_size * parts)
                    for part in range(parts)
                ]
            )
            if self._position is not None:
                self._made.load_state_dict(self._position)
        return self._made

    def val_dataloader(self) -> Any:  # noqa: ANN401
        return self._experiment.valid_batches(*self._place())

    def _place(self) -> tuple[int, int]:
        """Rank and number of processes."""
        trainer = self.trainer
        if trainer is None:
            raise RuntimeError("The batches are asked for outside of training.")
        return trainer.global_rank, trainer.world_size
