"""A tensor that is computed anew whenever it is asked for: writing into it is an error."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

__all__ = ["ReadOnly", "refusal"]


class ReadOnly(Tensor):
    """A computed table as users read it.

    All operations give plain tensors, but for views, which are read-only too; operations in place
    raise. `detach` and `clone` give what may be written into.
    """

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        written = [kwargs.get("out")]
        if name.endswith("_") and not name.endswith("__") or name in _WRITING:
            written.append(args[0] if args else next(iter(kwargs.values()), None))
        if any(isinstance(leaf, ReadOnly) for leaf in tree_leaves(written)):
            raise RuntimeError(refusal("this embedding"))
        plain_args, plain_kwargs = tree_map(_plain, (tuple(args), dict(kwargs)))
        result = func(*plain_args, **plain_kwargs)
        if name in ("detach", "untyped_storage", "storage"):
            return result
        memory = {_storage(leaf) for leaf in tree_leaves((args, kwargs)) if type(leaf) is cls}
        return tree_map(lambda x: _read_only(x, memory), result)


_IN_PLACE = ("add", "sub", "mul", "matmul", "truediv", "floordiv", "mod", "pow", "and", "or", "xor")
_WRITING = {"__setitem__", "__set__", *(f"__i{name}__" for name in _IN_PLACE)}


def refusal(name: str) -> str:
    """Why nothing is written into a computed table, and what to do instead."""
    return (
        f"weight of {name} is computed from its parameters, so that writing into it would change "
        "nothing. To set rows, call set_rows(ids, rows); to start from a trained table, make the "
        "embedding with from_pretrained(table, ...); to draw it anew, call reset_parameters(); "
        "to freeze it, call requires_grad_(False)."
    )


def _plain(x: object) -> object:
    # Without going through __torch_function__ again.
    if not isinstance(x, ReadOnly):
        return x
    with torch._C.DisableTorchFunctionSubclass():
        return x.as_subclass(Tensor)


def _storage(x: Tensor) -> int:
    with torch._C.DisableTorchFunctionSubclass():
        return x.untyped_storage()._cdata


def _read_only(x: object, memory: set[int]) -> object:
    if type(x) is Tensor and x.layout is torch.strided and _storage(x) in memory:
        return x.as_subclass(ReadOnly)
    return x
