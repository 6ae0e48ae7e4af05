"""LSTM backbone; with its dropouts set, it is that of AWD-LSTM."""

from itertools import pairwise
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.dropout import LockedDropout, WeightDropLSTM
from define.embedding.tables import check_sizes
from define.models.backbone import Backbone

__all__ = ["LSTM"]

State = tuple[tuple[Tensor, Tensor], ...]


class LSTM(Backbone):
    r"""Stack of LSTM layers that may end at another width, as a tied output wants it.

    Reference:
        | AWD-LSTM (Merity et al. 2018): all dropouts set, `output_size` that of the tied table
        | DeFINE, Sec. 4.1 (4 layers of 1024, the last as wide as the Map)

    Args:
        input_size: Width of the input.
        hidden_size: Width of all layers but the last.
        num_layers: Number of layers.
        output_size: Width of the last layer; `hidden_size` if omitted.
        dropout: Probability of locked dropout between layers.
        input_dropout: Probability of locked dropout on the input.
        output_dropout: Probability of locked dropout on the output.
        weight_dropout: Probability of dropping a hidden-to-hidden weight.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If a size is below 1, or an input does not have the sizes given here.

    Shape:
        x (batch, time, input_size), state → (batch, time, output_size), state. A state is a pair
        (h, c), each (1, batch, width), for each layer; None stands for zeros.

    Example:
        >>> lstm = LSTM(400, 1150, 3, output_size=400, weight_dropout=0.5)
        >>> y, state = lstm(torch.randn(2, 5, 400))
        >>> y, state = lstm(torch.randn(2, 5, 400), state)  # goes on where it stopped
        >>> y.shape
        torch.Size([2, 5, 400])
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        *,
        output_size: int | None = None,
        dropout: float = 0.0,
        input_dropout: float = 0.0,
        output_dropout: float = 0.0,
        weight_dropout: float = 0.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        input_size, hidden_size, num_layers = check_sizes(
            input_size=input_size, hidden_size=hidden_size, num_layers=num_layers
        )
        [output_size] = check_sizes(output_size=hidden_size if output_size is None else output_size)
        super().__init__(input_size, output_size)
        self.widths = (*[hidden_size] * (num_layers - 1), output_size)
        self.layers = nn.ModuleList(
            WeightDropLSTM(reads, width, weight_dropout, device=device, dtype=dtype)
            for reads, width in pairwise((input_size, *self.widths))
        )
        self.input_dropout = LockedDropout(input_dropout)
        self.dropout = LockedDropout(dropout)
        self.output_dropout = LockedDropout(output_dropout)

    def reset_parameters(self) -> None:
        for layer in self.layers:
            cast(WeightDropLSTM, layer).reset_parameters()

    def segment(
        self, x: Float[Tensor, "batch time in"], state: State | None
    ) -> tuple[Float[Tensor, "batch time out"], State]:
        if state is not None:
            expected = tuple(((1, x.shape[0], width),) * 2 for width in self.widths)
            given = tuple(tuple(tuple(t.shape) for t in pair) for pair in state)
            if given != expected:
                raise ValueError(f"state of shapes {given} must have shapes {expected}.")
        if x.shape[1] == 0:  # torch refuses it
            if state is None:
                zeros = [x.new_zeros(1, x.shape[0], width) for width in self.widths]
                state = tuple((zero, zero.clone()) for zero in zeros)
            return x.new_empty(*x.shape[:2], self.output_size), state
        x = self.input_dropout(x)
        states = []
        for i, layer in enumerate(self.layers):
            x, after = layer(x if i == 0 else self.dropout(x), None if state is None else state[i])
            states.append(after)
        return self.output_dropout(x), tuple(states)
