"""Functions of autograd whose gradients have no gradient."""

import torch

__all__ = ["check_first_derivative"]


def check_first_derivative(what: str, instead: str) -> None:
    """Refuses a second derivative; called in a backward pass.

    `torch.autograd.function.once_differentiable` would let ``create_graph=True`` pass.

    Raises:
        RuntimeError: If one is wanted; it names what has none, and what to do instead.
    """
    if torch.is_grad_enabled():
        raise RuntimeError(
            f"{what} has first derivatives only, not under create_graph=True; {instead}."
        )
