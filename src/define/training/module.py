"""What the training of any model shares: schedule, checks, validation, exact checkpoints."""

from functools import partial
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn
from torch.utils._pytree import tree_map, tree_map_only

from define.embedding import parameter_groups
from define.training.nt_asgd import AveragedSGD
from define.training.settings import Fitting
from define.training.sharding import reshard, shard, whole

__all__ = ["NonFiniteLossError", "TrainingModule"]


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
        carried: What each part of a batch of this process carries to the next one: tensors in
            tuples or lists, None if there is nothing. It is in checkpoints.
    """

    def __init__(self, model: nn.Module, training: Fitting, steps: int) -> None:
        super().__init__()
        self.model = model
        self.training_settings = training
        self.steps = steps
        self.carried: list[Any] = [None] * self.parts
        self._validation_total = torch.zeros((), dtype=torch.float64)
        self._validation_count = 0

    @property
    def parts(self) -> int:
        """Parts of this process's share of a batch, see `Fitting.accumulate_grad_batches`."""
        return self.training_settings.accumulate_grad_batches

    @property
    def part(self) -> int:
        """Number of the part that is worked on."""
        return self.trainer.fit_loop.batch_idx % self.parts

    @property
    def shares(self) -> int:
        """Parts of a batch over all devices."""
        return self.trainer.world_size * self.parts

    def count_tokens(self, batch: Any) -> int:  # noqa: ANN401
        """Tokens of all parts of the batch that a part is of, over all devices.

        For the speed and as the axis of curves.
        """
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

    def configure_model(self) -> None:
        if self.device_mesh is not None:
            shard(self.model, self.device_mesh["data_parallel"])

    def on_train_start(self) -> None:
        # A run may go on in another number format than the one that it was stopped in.
        dtype = next(self.model.parameters()).dtype
        self.carried = tree_map_only(
            Tensor, lambda t: t.to(dtype) if t.is_floating_point() else t, self.carried
        )

    def on_validation_start(self) -> None:
        self._swap()

    def on_validation_end(self) -> None:
        reshard(self.model)
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
        for name, parameter in whole(self.model.named_parameters()).items():
            if not torch.isfinite(parameter).all():
                raise NonFiniteLossError(
                    f"Parameter {name} is not finite {self._place()}: the checkpoint before it "
                    "is kept."
                )
        # With these, a run that was killed within an epoch goes on to the same numbers.
        gpu = self.device.type == "cuda"
        mine = [
            {
                "carried": tree_map_only(Tensor, Tensor.cpu, carried),
                "random": None if part else torch.get_rng_state(),
                "random_gpu": torch.cuda.get_rng_state(self.device) if gpu and not part else None,
            }
            for part, carried in enumerate(self.carried)
        ]
        processes = [mine] * self.trainer.world_size
        if self.trainer.world_size > 1:  # each has columns, and so a state, of its own
            torch.distributed.all_gather_object(processes, mine)
        # As if each part had a process of its own.
        checkpoint["processes"] = [part for parts in processes for part in parts]
        checkpoint["accumulate_grad_batches"] = self.parts

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        processes, first = checkpoint["processes"], self.trainer.global_rank * self.parts
        carried = [part["carried"] for part in processes]
        if len(carried) != self.shares:  # other devices or parts than before
            carried = [_shared(carried, part, self.shares) for part in range(self.shares)]
        carried = carried[first : first + self.parts]
        self.carried = tree_map_only(Tensor, lambda t: t.to(self.device), carried)
        mine: dict[str, Any] = processes[first] if first < len(processes) else {"random": None}
        if mine["random"] is None:  # a process that was not there draws numbers of its own
            torch.manual_seed(torch.initial_seed() + self.trainer.global_rank)
        else:
            torch.set_rng_state(mine["random"])
            if mine["random_gpu"] is not None and self.device.type == "cuda":
                torch.cuda.set_rng_state(mine["random_gpu"], self.device)
        # Lightning counts parts; all of those of a batch are done where a checkpoint is.
        before = checkpoint.get("accumulate_grad_batches", 1)
        for counts in checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"].values():
            if isinstance(counts, dict):
                ready = counts["ready"]
                counts |= {
                    name: ready // before * self.parts - (ready - count)
                    for name, count in counts.items()
                }

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

    def share(first: Any, *others: Any) -> Any:  # noqa: ANN401
        if not isinstance(first, Tensor):
            return first
        return torch.cat((first, *others), 1).chunk(world_size, 1)[rank].contiguous()

    return tree_map(share, *states)
