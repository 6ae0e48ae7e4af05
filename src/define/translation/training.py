"""Training of translation: each pair of sentences by itself, with label smoothing."""

from typing import Protocol, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from define.softmax import Softmax, TiedSoftmax
from define.softmax.chunked import IGNORED
from define.training.module import TrainingModule
from define.training.settings import Fitting

__all__ = ["Translating", "smoothed_nll"]


class Translator(Protocol):
    """What is trained: hidden states for (source, targets), and the output layer on them."""

    head: Softmax | TiedSoftmax

    def hidden(self, source: Tensor, targets: Tensor) -> Tensor: ...


def smoothed_nll(
    head: Softmax | TiedSoftmax, hidden: Tensor, targets: Tensor, smoothing: float
) -> tuple[Tensor, Tensor]:
    r"""Negative log-likelihoods, and the same with smoothed labels.

    .. math:: -(1 - \epsilon) \log p_t - \frac{\epsilon}{V} \sum_v \log p_v
              = -\log p_t + \epsilon \Big( z_t - \frac{1}{V} \sum_v z_v \Big)

    On the right, the mean of the logits z is that of the table's rows, so the logits of a batch
    are never held. In float32 at least, whatever the precision of training.

    Reference:
        | Rethinking the Inception Architecture for Computer Vision (Szegedy et al. 2016), Sec. 7

    Args:
        head: Output layer.
        hidden: (rows, features).
        targets: (rows,) ids, none of them ignored.
        smoothing: Share ε of the probability that is spread over all words.

    Returns:
        Both (rows,), in nats.
    """
    nll = head(hidden, targets)
    with torch.autocast(hidden.device.type, enabled=False):
        dtype = torch.promote_types(head.table.dtype, torch.float32)
        projected = head.projection(hidden.to(head.table.dtype)).to(dtype)
        table = head.table.to(dtype)
        difference = F.embedding(targets, table) - table.mean(0)  # (rows, n)
        excess = (projected * difference).sum(-1)
        if head.bias is not None:
            bias = head.bias.to(dtype)
            excess = excess + bias[targets] - bias.mean()
    return nll, nll + smoothing * excess


class Translating(TrainingModule):
    """Trains a translation model on batches of (source, targets), padding left out.

    Args:
        model: The model.
        training: How to train.
        steps: Those of the whole training, for the schedule of the learning rate.
        label_smoothing: See `smoothed_nll`; validation is without.

    Raises:
        ValueError: If `label_smoothing` is outside of [0, 1).
    """

    def __init__(
        self, model: nn.Module, training: Fitting, steps: int, label_smoothing: float = 0.1
    ) -> None:
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"{label_smoothing=} must be in [0, 1).")
        super().__init__(model, training, steps)
        self.label_smoothing = label_smoothing

    def count_tokens(self, batch: tuple[Tensor, Tensor, int]) -> int:
        return batch[2]

    def training_step(self, batch: tuple[Tensor, Tensor, int]) -> Tensor:
        nll, smoothed = self.losses(batch[:2], self.label_smoothing)
        # Gradients are averaged over devices and parts, whose shares of the tokens differ.
        share = self.shares / batch[2]
        loss = smoothed.sum() / max(1, len(nll)) * (len(nll) * share)
        self.check(loss)
        self.log("train_loss", loss, prog_bar=True)
        self.log("train_nll", nll.detach().sum() * share)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor, int]) -> None:
        nll, _ = self.losses(batch[:2], 0.0)
        self.add_validation(nll.sum(), len(nll))

    def losses(self, batch: tuple[Tensor, Tensor], smoothing: float) -> tuple[Tensor, Tensor]:
        """Plain and smoothed losses of the targets that are words, (rows,) each."""
        source, targets = batch
        model = cast(Translator, self.model)
        kept = targets != IGNORED
        return smoothed_nll(
            model.head, model.hidden(source, targets)[kept], targets[kept], smoothing
        )
