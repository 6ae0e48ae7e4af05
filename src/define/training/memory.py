"""Memory that a process needed, and how it keeps it."""

import ctypes
import sys

import torch

__all__ = ["keep_memory", "peak_memory"]

# Of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


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


def keep_memory() -> None:
    """Lets this process keep memory that it has freed, instead of giving it back to the system.

    A training step frees large blocks and asks for as large ones at once. glibc maps those above
    32 MiB anew each time, and the system fills each of their pages with zeros first, which takes
    up to a third of a step's time on a CPU. Does nothing with another C library.
    """
    if not hasattr(ctypes.pythonapi, "mallopt"):
        return
    ctypes.pythonapi.mallopt(_MMAP_MAX, 0)
    ctypes.pythonapi.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
