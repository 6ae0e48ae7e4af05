"""The training loop's steps: truncated backpropagation with a state that is carried over."""

import math
from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from define.models import LanguageModel
from define.softmax.chunked import IGNORED
from define.training.settings import Training

__all__ = ["LanguageModeling", "NonFiniteLossError", "rate_factor"]


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite: going on would only spoil what was learned."""


def rate_factor(step: int, *, steps: int, warmup: float, final: float) -> float:
    """What the learning rate is multiplied by: linear warm-up, then half a cosine.

    Args:
        step: Steps done so far.
        steps: Those of the whole training.
        warmup: Share of them that warm up.
        final: What the cosine ends at.
    """
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1)
    done = min(1.0, (step - rising) / max(1, steps - rising))
    return final + (1 - final) * (1 + math.cos(math.pi * done)) / 2


class LanguageModeling(pl.LightningModule):
    """Trains a language model; logs loss and perplexity of training and validation.

    Args:
        model: The model.
        training: How to train.
        steps: Those of the whole training, for the schedule of the learning rate.
    """

    def __init__(self, model: LanguageModel, training: Training, steps: int) -> None:
        super().__init__()
        self.model = model
        self.training_settings = training
        self.steps = steps
        self._state: Any = None
        self._validation_state: Any = None
        self._validation_total = torch.zeros((), dtype=torch.float64)
        self._validation_count = 0

    def on_train_epoch_start(self) -> None:
        # Not called when training resumes within an epoch: the state then is the checkpoint's.
        self._state = None

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        nll, state = self.model(*batch, self._state)
        self._state = _map_tensors(state, torch.Tensor.detach)
        loss = nll.mean()
        self._check(loss, "loss")
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def on_validation_epoch_start(self) -> None:
        self._validation_state, self._validation_count = None, 0
        self._validation_total = torch.zeros((), dtype=torch.float64)

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        tokens, targets = batch
        nll, self._validation_state = self.model(tokens, targets, self._validation_state)
        self._validation_total += nll.sum().double().cpu()
        self._validation_count += int((targets != IGNORED).sum())

    def on_validation_epoch_end(self) -> None:
        sums = torch.tensor([self._validation_total, self._validation_count], device=self.device)
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        loss = total / count  # over the tokens of all devices
        self._check(loss, "validation loss")
        self.log("valid_loss", loss, sync_dist=True)  # the same on all; else Lightning warns
        self.log("valid_perplexity", loss.exp(), prog_bar=True, sync_dist=True)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.training_settings
        optimizer = settings.optimizer(self.model.parameters())
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate
        factor = partial(
            rate_factor,
            steps=self.steps,
            warmup=settings.warmup,
            final=settings.final,
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NonFiniteLossError(
                    f"Parameter {name} is not finite {self._place()}: the checkpoint before it "
                    "is kept."
                )
        # With these, a run that was killed within an epoch goes on to the same numbers.
        gpu = self.device.type == "cuda"
        mine = {
            "carried": _map_tensors(self._state, torch.Tensor.cpu),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.device) if gpu else None,
        }
        processes = [mine] * self.trainer.world_size
        if self.trainer.world_size > 1:  # each has columns, and so a state, of its own
            torch.distributed.all_gather_object(processes, mine)
        checkpoint["processes"] = processes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        mine = checkpoint["processes"][self.trainer.global_rank]
        self._state = _map_tensors(mine["carried"], lambda t: t.to(self.device))
        torch.set_rng_state(mine["random"])
        if mine["random_gpu"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(mine["random_gpu"], self.device)

    def _check(self, loss: Tensor, name: str) -> None:
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"The {name} is {loss.item()} {self._place()} (learning rate {rate:.3g}). The "
                "weights of the best validation and the last checkpoint are as they were."
            )

    def _place(self) -> str:
        return f"in epoch {self.current_epoch + 1}, after {self.global_step} steps"


def _map_tensors(state: Any, function: Any) -> Any:  # noqa: ANN401
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple | list):
        return type(state)(_map_tensors(part, function) for part in state)
    return state
