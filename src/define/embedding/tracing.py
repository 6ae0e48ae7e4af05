"""Whether code runs on tensors whose values are not there."""

import torch
from torch import Tensor

__all__ = ["is_traced", "is_transformed"]


def is_traced(tensor: Tensor) -> bool:
    """Whether a shape cannot depend on the values of a tensor.

    So it is under `torch.compile`, `torch.export` and the transforms of `torch.func`, on the meta
    device and for fake tensors.
    """
    if torch.compiler.is_compiling() or tensor.is_meta:
        return True
    fake = torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.FAKE)
    return is_transformed() or fake is not None


def is_transformed() -> bool:
    """Whether code runs under a transform of `torch.func`."""
    if torch.compiler.is_compiling():
        return False
    return torch._C._functorch.maybe_current_level() is not None  # pyright: ignore[reportAttributeAccessIssue]
