"""What the training of any model shares: schedule, checks, validation, exact checkpoints."""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from define.embedding import parameter_groups
from define.training.nt_asgd import AveragedSGD
from define.training.settings import Fitting

__all__ = ["NonFiniteLossError", "TrainingModule", "map_tensors"]


class NonFiniteLossError(ArithmeticError):
    """The loss is NaN or infinite: going on would only spoil what was learned."""


class TrainingModule(pl.LightningModule):
    """Base of what trains a model.

    A subclass has a `training_step` that returns a loss (see :meth:`check`) and logs it as
    `train_loss`, a `validation_step` that calls :meth:`add_validation`, and :meth:`count_tokens`.
    Loss and perplexity of validation are logged here.

    Args:
        model: The model.
        training: How to train.
        steps: Those of the whole training, for the schedule of the learning rate.

    Attributes:
        carried: What this process carries from batch to batch: tensors in tuples or lists. It is
            part of checkpoints; None if there is nothing.
    """

    def __init__(self, model: nn.Module, training: Fitting, steps: int) -> None:
        super().__init__()
        self.model = model
        self.training_settings = training
        self.steps = steps
        self.carried: Any = None
        self._validation_total = torch.zeros((), dtype=torch.float64)
        self._validation_count = 0

    def count_tokens(self, batch: Any) -> int:  # noqa: ANN401
        """Tokens of a training batch over all devices, for the speed and as the axis of curves."""
        raise NotImplementedError

    def score(self) -> float:
        """What chooses the best weights after a validation: the smaller, the better."""
        return self.trainer.callback_metrics["valid_loss"].item()

    def add_validation(self, nll: Tensor, count: int) -> None:
        """Adds a batch to the validation.

        Args:
            nll: Sum of negative log-likelihoods in nats.
            count: Number of tokens that it sums over.
        """
        self._validation_total += nll.detach().double().cpu()
        self._validation_count += count

    def on_validation_start(self) -> None:
        self._swap()

    def on_validation_end(self) -> None:
        self._swap()  # after the callbacks, which saved the means as the best weights

    def _swap(self) -> None:
        """Validates with the means of an optimizer that keeps them."""
        optimizer = self.trainer.optimizers[0]
        if isinstance(optimizer, AveragedSGD):
            optimizer.swap()

    def on_validation_epoch_start(self) -> None:
        self._validation_total = torch.zeros((), dtype=torch.float64)
        self._validation_count = 0

    def on_validation_epoch_end(self) -> None:
        sums = torch.tensor([self._validation_total, self._validation_count], device=self.device)
        total, count = self.trainer.strategy.reduce(sums, reduce_op="sum")
        loss = total / count  # over the tokens of all devices
        self.check(loss, "validation loss")
        self.log("valid_loss", loss, sync_dist=True)  # the same on all; else Lightning warns
        self.log("valid_perplexity", loss.exp(), prog_bar=True, sync_dist=True)
        optimizer = self.trainer.optimizers[0]
        if isinstance(optimizer, AveragedSGD) and not self.trainer.sanity_checking:
            optimizer.observe(loss.item())

    def configure_optimizers(self) -> OptimizerLRScheduler:
        settings = self.training_settings
        groups: Any = parameter_groups(self.model, settings.learning_rate, settings.unit_rate)
        optimizer = settings.optimizer(groups)
        factor = partial(settings.schedule.factor, steps=self.steps)
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
            "carried": map_tensors(self.carried, torch.Tensor.cpu),
            "random": torch.get_rng_state(),
            "random_gpu": torch.cuda.get_rng_state(self.device) if gpu else None,
        }
        processes = [mine] * self.trainer.world_size
        if self.trainer.world_size > 1:  # each has columns, and so a state, of its own
            torch.distributed.all_gather_object(processes, mine)
        checkpoint["processes"] = processes

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        processes, rank = checkpoint["processes"], self.trainer.global_rank
        mine = processes[rank % len(processes)]
        carried = mine["carried"]
        if len(processes) != (size := self.trainer.world_size):  # other devices than before
            carried = _shared([part["carried"] for part in processes], rank, size)
        self.carried = map_tensors(carried, lambda t: t.to(self.device))
        torch.set_rng_state(mine["random"])
        if rank >= len(processes):  # a process that was not there draws numbers of its own
            torch.manual_seed(torch.initial_seed() + rank)
        if mine["random_gpu"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(mine["random_gpu"], self.device)

    def check(self, loss: Tensor, name: str = "loss") -> None:
        """Checks a loss before anything is done with it.

        Raises:
            NonFiniteLossError: If it is NaN or infinite.
        """
        if not torch.isfinite(loss):
            rate = self.trainer.optimizers[0].param_groups[0]["lr"]
            raise NonFiniteLossError(
                f"The {name} is {loss.item()} {self._place()} (learning rate {rate:.3g}). The "
                "weights of the best validation and the last checkpoint are as they were."
            )

    def _place(self) -> str:
        return f"in epoch {self.current_epoch + 1}, after {self.global_step} steps"


def _shared(states: list[Any], rank: int, world_size: int) -> Any:  # noqa: ANN401
    """The share of one process in states of others; their second dimension is the batch's."""
    first = states[0]
    if isinstance(first, Tensor):
        return torch.cat(states, 1).chunk(world_size, 1)[rank].contiguous()
    if isinstance(first, tuple | list):
        return type(first)(
            _shared(list(parts), rank, world_size) for parts in zip(*states, strict=True)
        )
    return first


def map_tensors(state: Any, function: Any) -> Any:  # noqa: ANN401
    """Applies a function to all tensors in tuples and lists."""
    if isinstance(state, Tensor):
        return function(state)
    if isinstance(state, tuple | list):
        return type(state)(map_tensors(part, function) for part in state)
    return state
