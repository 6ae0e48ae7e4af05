"""How the learning rate changes while a model is trained."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["Constant", "Cosine", "InverseSquareRoot", "Schedule", "StepDecay"]


class Schedule(ABC):
    """What the learning rate is multiplied by at each step."""

    @abstractmethod
    def factor(self, step: int, steps: int) -> float:
        """The factor of one step.

        Args:
            step: Steps done so far.
            steps: Those of the whole training.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The same learning rate for all steps.

    Example:
        >>> Constant().factor(step=7, steps=10)
        1.0
    """

    def factor(self, step: int, steps: int) -> float:
        return 1.0


@dataclass(frozen=True)
class Cosine(Schedule):
    r"""Linear warm-up from 0, then half a cosine.

    .. math:: f + (1 - f) (1 + \cos \pi t) / 2

    where t runs from 0 at the end of warm-up to 1.

    Args:
        warmup: Share of all steps that warm up, in [0, 1).
        final: What the cosine ends at, f, in [0, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> [round(Cosine(warmup=0.2).factor(step, 10), 3) for step in (0, 1, 2, 6, 10)]
        [0.333, 0.667, 1.0, 0.5, 0.0]
    """

    warmup: float = 0.1
    final: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.warmup < 1 or not 0 <= self.final <= 1:
            raise ValueError(
                f"warmup={self.warmup} must be in [0, 1) and final={self.final} in [0, 1]."
            )

    def factor(self, step: int, steps: int) -> float:
        rising = round(self.warmup * steps)
        if step < rising:
            return (step + 1) / (rising + 1)
        done = min(1.0, (step - rising) / max(1, steps - rising))
        return self.final + (1 - self.final) * (1 + math.cos(math.pi * done)) / 2


@dataclass(frozen=True)
class InverseSquareRoot(Schedule):
    r"""Linear warm-up, then the inverse square root of the step; 1 at the end of warm-up.

    .. math:: \min(s / w, \sqrt{w / s}), \quad s = \mathrm{step} + 1

    Reference:
        | Attention Is All You Need (Vaswani et al. 2017), Sec. 5.3, without its factor of the width

    Args:
        warmup_steps: Steps w that warm up, at least 1.

    Raises:
        ValueError: If `warmup_steps` is below 1.

    Example:
        >>> [InverseSquareRoot(warmup_steps=4).factor(step, 100) for step in (0, 3, 15)]
        [0.25, 1.0, 0.5]
    """

    warmup_steps: int = 4000

    def __post_init__(self) -> None:
        if self.warmup_steps < 1:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be at least 1.")

    def factor(self, step: int, steps: int) -> float:
        done = step + 1
        return min(done / self.warmup_steps, math.sqrt(self.warmup_steps / done))


@dataclass(frozen=True)
class StepDecay(Schedule):
    """A factor more from each milestone on.

    Reference:
        | DeFINE, Sec. 4.1 (the LSTM's rate is divided by 10 at epoch 15 of 20, a share of 0.75)

    Args:
        milestones: Shares of all steps, ascending, each in (0, 1).
        gamma: What the rate is multiplied by at each, in (0, 1].

    Raises:
        ValueError: If an argument is out of its range.

    Example:
        >>> schedule = StepDecay(milestones=(0.5, 0.75), gamma=0.5)
        >>> [schedule.factor(step, 100) for step in (0, 49, 50, 75, 100)]
        [1.0, 1.0, 0.5, 0.25, 0.25]
    """

    milestones: tuple[float, ...] = (0.75,)
    gamma: float = 0.1

    def __post_init__(self) -> None:
        inside = all(0 < share < 1 for share in self.milestones)
        if not inside or list(self.milestones) != sorted(set(self.milestones)):
            raise ValueError(f"milestones={self.milestones} must ascend between 0 and 1.")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma={self.gamma} must be in (0, 1].")

    def factor(self, step: int, steps: int) -> float:
        return self.gamma ** sum(step >= share * steps for share in self.milestones)
