"""SGD that averages its iterates, from the first on or once it stops improving."""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["NTASGD", "AveragedSGD", "nonmonotonic"]


def nonmonotonic(history: Sequence[float], loss: float, interval: int) -> bool:
    """Whether a loss is worse than the best of those more than `interval` validations ago.

    Args:
        history: Losses of the validations before, in their order.
        loss: That of the last validation.
        interval: How many validations before the last one do not count, n.

    Example:
        >>> nonmonotonic([3.0, 2.0, 2.5], 2.1, interval=1)
        True
        >>> nonmonotonic([3.0, 2.0, 2.5], 2.1, interval=2)
        False
    """
    old = history[: max(0, len(history) - interval)]
    return bool(old) and loss > min(old)


class AveragedSGD(torch.optim.SGD):
    r"""SGD that keeps the mean of all its iterates beside the weights.

    .. math:: \bar w_k = \frac{1}{k} \sum_{i = 1}^{k} w_i

    SGD goes on from its own weights; the mean is what is validated and used in the end. Built on
    SGD instead of `torch.optim.ASGD`, which steps with the learning rate of the step before, one
    batch late for a rate that changes with every batch, and leaves the first iterate out.

    Reference:
        | Acceleration of Stochastic Approximation by Averaging (Polyak & Juditsky 1992)

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        weight_decay: Factor of the weights in their gradient.

    Example:
        >>> weight = nn.Parameter(torch.tensor([4.0]))
        >>> optimizer = AveragedSGD([weight], lr=0.25, weight_decay=0.0)
        >>> for _ in range(2):  # 4 → 3 → 2
        ...     weight.grad = torch.tensor([4.0])
        ...     _ = optimizer.step()
        >>> optimizer.swap()
        >>> weight.item()
        2.5
    """

    def __init__(
        self, params: Iterable[nn.Parameter], lr: float = 30.0, weight_decay: float = 1.2e-6
    ) -> None:
        super().__init__(params, lr=lr, weight_decay=weight_decay)
        # In a group, since groups are what torch saves, loads and copies.
        self.param_groups[0].update(averaged=0, validations=())

    @property
    def averaged(self) -> int | None:
        """How many iterates the mean is of; None before it is begun."""
        return self.param_groups[0]["averaged"]

    def observe(self, loss: float) -> None:
        """Notes the loss of a validation."""
        group = self.param_groups[0]
        group["validations"] = (*group["validations"], loss)

    def step(self, closure: Any = None) -> Any:  # noqa: ANN401
        loss = super().step(closure)
        if self.averaged is not None:
            self.param_groups[0]["averaged"] += 1
            self._average(1 / self.param_groups[0]["averaged"])
        return loss

    @torch.no_grad()
    def _average(self, share: float) -> None:
        for parameter in self._parameters():
            state = self.state[parameter]
            if "average" in state:
                state["average"].lerp_(parameter, share)
            else:
                state["average"] = parameter.detach().clone()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the weights for their means, and back; nothing where there are none."""
        if not self.averaged:
            return
        for parameter in self._parameters():
            mean = self.state[parameter]["average"]
            weights = parameter.clone()
            parameter.copy_(mean)
            mean.copy_(weights)

    def _parameters(self) -> list[Tensor]:
        return [parameter for group in self.param_groups for parameter in group["params"]]


class NTASGD(AveragedSGD):
    r"""Non-monotonically triggered averaged SGD.

    Plain SGD until a validation is worse than the best of those more than `nonmonotone`
    validations before it, T; from then on :class:`AveragedSGD`:

    .. math:: \bar w_k = \frac{1}{k - T} \sum_{i = T + 1}^{k} w_i

    Reference:
        | Regularizing and Optimizing LSTM Language Models (Merity et al. 2018), Sec. 3, Algorithm 1

    Args:
        params: Parameters or groups of them.
        lr: Learning rate.
        weight_decay: Factor of the weights in their gradient.
        nonmonotone: Validations that do not count, n, at least 0.

    Example:
        >>> optimizer = NTASGD([nn.Parameter(torch.zeros(2))], nonmonotone=1)
        >>> for loss in (3.0, 2.0, 2.5, 2.1):
        ...     optimizer.observe(loss)
        >>> optimizer.averaged  # begun, since 2.1 is worse than 2.0
        0
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 30.0,
        weight_decay: float = 1.2e-6,
        nonmonotone: int = 5,
    ) -> None:
        if nonmonotone < 0:
            raise ValueError(f"{nonmonotone=} must be at least 0.")
        super().__init__(params, lr, weight_decay)
        self.param_groups[0].update(averaged=None, nonmonotone=nonmonotone)

    def observe(self, loss: float) -> None:
        """Notes the loss of a validation, which may be the trigger."""
        group = self.param_groups[0]
        if self.averaged is None and nonmonotonic(group["validations"], loss, group["nonmonotone"]):
            group["averaged"] = 0
        super().observe(loss)
