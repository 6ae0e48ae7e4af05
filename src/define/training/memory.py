"""Memory that a process needed."""

import sys

import torch

__all__ = ["peak_memory"]


def peak_memory(device: torch.device) -> int | None:
    """Most bytes that were in use at a time since the process began.

    On a CUDA device those of its tensors, otherwise those of the whole process; None where the
    system does not tell.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    try:
        import resource
    except ImportError:  # Windows
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
