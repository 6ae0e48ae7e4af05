"""The contract of context models: features and a state in, features and a state out."""

from abc import ABC, abstractmethod
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

__all__ = ["Backbone"]

State = Any  # each backbone has its own: a tensor, or tuples, lists and dicts of tensors


class Backbone(nn.Module, ABC):
    r"""Base of context models, from the embedding's features to those that the output layer reads.

    A subclass says what it makes of one segment (:meth:`segment`). The state is an argument and a
    result, never stored on the module; two half segments with carried state equal one whole
    segment. A state carries no gradient into the next segment: the base sees to it, so a training
    loop hands it on as it is. The second dimension of its tensors is that of the batch.

    Args:
        input_size: Width of the input.
        output_size: Width of the output.

    Raises:
        ValueError: If an input does not have the sizes given here.

    Shape:
        x (batch, time, input_size), state → (batch, time, output_size), state. A state of None
        stands for the start of a text.
    """

    def __init__(self, input_size: int, output_size: int) -> None:
        super().__init__()
        self.input_size = input_size
        self.output_size = output_size

    @abstractmethod
    def segment(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The output for a segment of checked width, and the state after it."""

    def forward(
        self, x: Float[Tensor, "batch time in"], state: State = None
    ) -> tuple[Float[Tensor, "batch time out"], State]:
        """The output for a segment, and the state to go on from."""
        if x.dim() != 3 or x.shape[-1] != self.input_size:
            input_size = self.input_size
            raise ValueError(f"x {tuple(x.shape)} must be (batch, time, {input_size=}).")
        y, state = self.segment(x, state)
        return y, tree_map_only(Tensor, Tensor.detach, state)
