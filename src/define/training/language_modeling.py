"""Training of language models: truncated backpropagation with a state that is carried over."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_map_only

from define.dropout import activation_regularization, temporal_activation_regularization
from define.models import LanguageModel
from define.softmax.chunked import IGNORED
from define.training.module import TrainingModule
from define.training.settings import Training

__all__ = ["LanguageModeling"]


class LanguageModeling(TrainingModule):
    """Trains a language model on consecutive segments of text.

    Args:
        model: The model.
        training: How to train.
        steps: Those of the whole training, for the schedule of the learning rate.

    Raises:
        ValueError: If the output is to be regularized of a backbone without `output_dropout`.
    """

    model: LanguageModel
    training_settings: Training

    def __init__(self, model: LanguageModel, training: Training, steps: int) -> None:
        super().__init__(model, training, steps)
        self._validation_state: Any = None
        alpha, beta = self._regularization = (
            training.activation_regularization,
            training.temporal_activation_regularization,
        )
        if (alpha or beta) and not hasattr(model.backbone, "output_dropout"):
            raise ValueError(
                f"activation_regularization={alpha} and temporal_activation_regularization={beta} "
                f"must be 0 for a backbone without output_dropout ({type(model.backbone).__name__})"
                "."
            )

    def count_tokens(self, batch: tuple[Tensor, Tensor]) -> int:
        return batch[0].numel() * self.shares

    def on_train_epoch_start(self) -> None:
        # Not called when training resumes within an epoch: the state then is the checkpoint's.
        self.carried = [None] * self.parts

    def training_step(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        self._scale_rate(batch[0].shape[1])
        with self._outputs() as outputs:
            nll, state = self.model(*batch, self.carried[self.part])
        self.carried[self.part] = tree_map_only(Tensor, Tensor.detach, state)
        loss = nll.mean()
        self.log("train_loss", loss, prog_bar=True)  # without the regularizers
        for raw, dropped in outputs:
            alpha, beta = self._regularization
            loss = loss + activation_regularization(dropped, alpha)
            loss = loss + temporal_activation_regularization(raw, beta)
        self.check(loss)
        return loss

    @contextmanager
    def _outputs(self) -> Iterator[list[tuple[Tensor, Tensor]]]:
        """The backbone's output before and after dropout, where it is regularized."""
        outputs: list[tuple[Tensor, Tensor]] = []
        if not any(self._regularization):
            yield outputs
            return
        dropout: Any = self.model.backbone.output_dropout
        hook = dropout.register_forward_hook(lambda _, args, y: outputs.append((args[0], y)))
        try:
            yield outputs
        finally:
            hook.remove()

    def _scale_rate(self, length: int) -> None:
        """Scales the learning rate of this step to the length of its segment.

        Long segments have fewer steps a token (Merity et al. 2018, Sec. 5). The schedule sets the
        rate anew after each step.
        """
        settings = self.training_settings
        if settings.random_lengths:
            [schedule], [optimizer] = self.trainer.lr_scheduler_configs, self.trainer.optimizers
            rates = schedule.scheduler.get_last_lr()
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * length / settings.length

    def on_validation_epoch_start(self) -> None:
        super().on_validation_epoch_start()
        self._validation_state = None

    def validation_step(self, batch: tuple[Tensor, Tensor]) -> None:
        tokens, targets = batch
        nll, self._validation_state = self.model(tokens, targets, self._validation_state)
        self.add_validation(nll.sum(), int((targets != IGNORED).sum()))
