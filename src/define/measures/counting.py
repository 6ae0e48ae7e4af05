"""Counting the parameters of models that are built for their shapes alone."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

__all__ = ["count_parameters", "shapes_only"]


class _Undrawn(TorchFunctionMode):
    """Leaves out what fills tensors: without memory it does nothing but takes 3 times as long."""

    _FILLING = frozenset({"normal_", "uniform_", "zero_", "fill_", "copy_", "mul_"})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401 - whatever `func` gives
        kwargs = kwargs or {}
        if getattr(func, "__name__", "") in self._FILLING:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made inside have parameters on the meta device: shapes, no memory, no values."""
    with torch.device("meta"), _Undrawn():
        yield


def count_parameters(*modules: nn.Module) -> int:
    """Number of parameters of all modules together; a parameter that several share counts once."""
    return sum(p.numel() for p in nn.ModuleList(modules).parameters())
