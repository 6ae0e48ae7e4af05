"""Adam as models of this package are trained with it."""

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["FusedAdam", "TransformerAdam"]


class FusedAdam(torch.optim.Adam):
    """`torch.optim.Adam` in one pass over each parameter, on a CPU too.

    The ordinary one reads and writes a parameter's size a dozen times for each step, of which a
    large vocabulary feels every one: its tables are large, and a batch costs little in them.

    Args:
        params: Parameters, or groups of them.
        lr: Learning rate.
        betas: Decay of the two averages.
        eps: Added to the denominator.
        weight_decay: Factor of the parameters, added to their gradients.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        lr: float = 0.001,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, fused=True)
        # It could also undo the scale of float16 gradients, but then they could not be clipped
        # before; Lightning refuses to clip for all optimizers that say they can.
        self._step_supports_amp_scaling = False


class TransformerAdam(FusedAdam):
    """`FusedAdam` with the published settings of the Transformer.

    Reference:
        | Attention Is All You Need (Vaswani et al. 2017), Sec. 5.3

    Args:
        params: Parameters, or groups of them.
        betas: Decay of the two averages.
        eps: Added to the denominator.
    """

    def __init__(
        self,
        params: Iterable[nn.Parameter],
        betas: tuple[float, float] = (0.9, 0.98),
        eps: float = 1e-9,
    ) -> None:
        super().__init__(params, betas=betas, eps=eps)
