"""Adam as Transformers are trained with it."""

from collections.abc import Iterable

import torch
from torch import nn

__all__ = ["TransformerAdam"]


class TransformerAdam(torch.optim.Adam):
    """`torch.optim.Adam` with the published settings of the Transformer.

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
