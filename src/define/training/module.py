"""The training loop's steps: truncated backpropagation with a state that is carried over."""

import math
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor

from define.models import LanguageModel
from define.softmax.chunked import IGNORED
from define.training.settings import Training

__all__ = ["LanguageModeling", "NonFiniteLossError"]


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite: going on would only spoil what was learned."""


class LanguageModeling(pl.LightningModule):
    """Trains a language model; logs loss and perplexity of training and validation."""

    def __init__(self, model: LanguageModel, training: Training) -> None:
        super().__init__()
        self.model = model
        self.training_settings = training
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
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"The loss is {loss.item()} at epoch {self.current_epoch}, step "
                f"{self.global_step} (learning rate {rate:.3g}). The weights of the best "
                "validation and the last checkpoint are as they were."
            )
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
        self.log("valid_loss", loss)
        self.log("valid_perplexity", loss.exp(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        settings = self.training_settings
        optimizer = settings.optimizer(self.model.parameters())
        for group in optimizer.param_groups:
            group["lr"] = settings.learning_rate
        steps = int(self.trainer.estimated_stepping_batches)
        warmup = round(settings.warmup * steps)

        def factor(step: int) -> float:
            if step < warmup:
                return (step + 1) / (warmup + 1)
            done = (step - warmup) / max(1, steps - warmup)
            cosine = (1 + math.cos(math.pi * min(1.0, done))) / 2
            return settings.final + (1 - settings.final) * cosine

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name, parameter in self.model.named_parameters():
            if not torch.isfinite(parameter).all():
                raise NonFiniteLossError(
                    f"Parameter {name} is not finite at step {self.global_step}: the checkpoint "
                    "before it is kept."
                )
        # With these, a run that was killed within an epoch goes on to the same numbers.
        checkpoint["carried_state"] = self._state
        checkpoint["random_state"] = torch.get_rng_state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self._state = _map_tensors(checkpoint["carried_state"], lambda t: t.to(self.device))
        torch.set_rng_state(checkpoint["random_state"].cpu())


def _map_tensors(state: Any, function: Any) -> Any:  # noqa: ANN401
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple | list):
        return type(state)(_map_tensors(part, function) for part in state)
    return state
