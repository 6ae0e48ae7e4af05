"""The table that input and output read in one step: made once, in chunks, and then let go."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar, cast
from weakref import ref

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from define.embedding.contract import Member

__all__ = [
    "StepCache",
    "in_chunks",
    "is_bare",
    "is_checkpointed",
    "look_up",
    "snapshot",
    "written_by_nobody",
]

_CHUNK = 2048  # rows made at a time
_KEPT = 2**21  # numbers kept for the gradient; what is beyond is computed again
_PLAIN = frozenset({bool, int, float, str, tuple, type(None)})

Kind = TypeVar("Kind", bound=nn.Module)

_steps = 0  # of all optimizers


def _count_step(*_: object) -> None:
    global _steps
    _steps += 1


# A fused step changes parameters without counting up their versions.
register_optimizer_step_post_hook(_count_step)


_known_sums: ContextVar[dict["StepCache", list[float]] | None]
_known_sums = ContextVar("known sums of parameters", default=None)


@contextmanager
def written_by_nobody() -> Iterator[None]:
    """Lets caches look once for what is written through `.data`: in here, nobody writes there."""
    token = _known_sums.set({})
    try:
        yield
    finally:
        _known_sums.reset(token)


class _Values(dict[object, Tensor]):
    """Tensors by their names. Their hooks know it weakly: torch would never free the cycle."""


def _drop(values: "ref[_Values]", name: object, _: Tensor) -> None:
    held = values()
    if held is not None:
        held.pop(name, None)


def _version(tensor: Tensor) -> int:
    return 0 if tensor.is_inference() else tensor._version


class StepCache:
    """Keeps computed tensors for as long as one step may use them.

    Each is let go when its gradient has been taken, and all when anything changed that they depend
    on: a parameter (also in place, through `.data`, and by any optimizer of torch), whether it is
    trained, a module, its mode, hooks or attributes (numbers, names and tuples), the type of
    autocast. Several threads may ask at once. Copies of a module start without any.

    Args:
        sums: Whether changes through `.data` are seen, at the price of reading all parameters.
    """

    def __init__(self, sums: bool = True) -> None:
        self._with_sums = sums
        self.clear()

    def clear(self) -> None:
        """Lets everything go."""
        self._held: tuple[Any, Any, _Values] = (None, None, _Values())

    def get(self, module: nn.Module, name: object, make: Callable[[], Tensor]) -> Tensor:
        """What `make` gives from a module under a name, made anew if it may have changed."""
        modules = list(module.modules())
        slots = [slot for m in modules for slot in (m._parameters, m._buffers)]
        parts = [part for slot in slots for part in slot.values() if part is not None]
        versions = [(id(p), p.data_ptr(), p.dtype, p.requires_grad, _version(p)) for p in parts]
        device = parts[0].device.type
        autocast = torch.is_autocast_enabled(device) and torch.get_autocast_dtype(device)
        looks = [(id(m), *m._forward_hooks, *m._forward_pre_hooks, *_plain(m)) for m in modules]
        grad = (torch.is_grad_enabled(), torch.is_inference_mode_enabled())
        state = (versions, looks, autocast, grad, _steps, self._sums(parts, device, grad[0]))
        held = self._held
        if held[0] != state:
            # Kept too, but for the owner: an id is another's as soon as its object is gone.
            held = self._held = (state, (parts, modules[1:]), _Values())
        values = held[-1]
        value = values.get(name)
        if value is None:
            value = values[name] = make()
            if value.requires_grad:
                value.register_hook(partial(_drop, ref(values), name))
        return value

    def _sums(self, parts: list[Tensor], device: str, grad: bool) -> list[float]:
        # What is written through `.data` (PEFT merges adapters so) counts up no version. Reading
        # all parameters costs less than the product with the table; while a GPU trains, to wait
        # for it would cost more.
        if not self._with_sums or (grad and device != "cpu"):
            return []
        known = _known_sums.get()
        if known is not None and self in known:
            return known[self]
        sums = torch.stack([p.detach().sum(dtype=torch.float32) for p in parts]).tolist()
        if known is not None:
            known[self] = sums
        return sums

    def __reduce__(self) -> tuple[type["StepCache"], tuple[bool]]:
        return StepCache, (self._with_sums,)


def _plain(module: nn.Module) -> list[object]:
    """Attributes such as the mode and `padding_idx`; a tuple may hold what cannot be compared."""
    values = [v for v in vars(module).values() if type(v) in _PLAIN]
    return [id(v) if type(v) is tuple else v for v in values]


def is_bare(module: nn.Module) -> bool:
    """Whether parameters may be read, and rows kept, without calling a module: no tool is between.

    Hooks of the module itself do not count: they are for what it is called for.
    """
    return all(
        "forward" not in vars(part)  # accelerate's hooks
        and (part is module or not (part._forward_pre_hooks or part._forward_hooks))
        and not hasattr(type(part), "unshard")  # FSDP2
        and vars(part).get("max_norm") is None  # look-ups change the table
        and "_is_replica" not in vars(part)  # of nn.DataParallel, without parameters
        and (isinstance(part, Member) or type(part).__module__.startswith(("torch.nn.", "define.")))
        for part in module.modules()
    )


def snapshot(module: Kind) -> Kind:
    """The module as it is now, on the same parameters, for rows that are made again later.

    Before their gradient is taken, its mode may change, and `torch.func.functional_call` gives back
    the parameters that it lent. Rows that it keeps are left out: what they need for their gradient
    must not lead back to them, since torch would never free the cycle.
    """
    if not torch.is_grad_enabled():
        return module
    bare = is_bare(module)  # tools change what modules hold

    def copied(part: nn.Module) -> nn.Module:
        twin = object.__new__(type(part))  # as `copy.copy`, at a tenth of the time
        own = twin.__dict__ = part.__dict__.copy()
        own["_parameters"], own["_buffers"] = part._parameters.copy(), part._buffers.copy()
        if isinstance(part, Member):
            own["_made"], own["_row_cache"] = StepCache(), None
        if bare:
            own["_modules"] = {
                k: None if m is None else copied(m) for k, m in part._modules.items()
            }
        return twin

    return cast(Kind, copied(module))


def in_chunks(
    function: Callable[..., Tensor],
    ids: Tensor,
    read: Tensor | None,
    parameters: Sequence[nn.Parameter],
    *,
    draws: bool,
    numbers: int,
    again: Callable[..., Tensor] | None = None,
) -> Tensor:
    """``function(ids)``, or ``function(ids, read)``, for rows that do not depend on one another.

    They are made a chunk at a time. What the first chunks hold for the gradient is kept, up to a
    bound; the others are made again in the backward pass. Memory does not grow with the number of
    rows then. There may be several backward passes.

    Args:
        function: Gives a row for each id.
        ids: (rows,).
        read: What it reads for each row besides; None if there is nothing.
        parameters: What it computes with.
        draws: Whether it draws random numbers.
        numbers: How many numbers a row holds for the gradient, roughly.
        again: What makes them again, with the gradients of `function` and any values; `function`
            itself if omitted.
    """
    tensors = [*([] if read is None else [read]), *parameters]
    reads = [ids] if read is None else [ids, read]
    plan = _Plan(function, again or function, reads, tensors, draws, numbers)
    if torch.is_grad_enabled() and any(t.requires_grad for t in plan.tensors):
        return _Made.apply(plan, *plan.tensors)
    return torch.cat([function(*chunk) for chunk in plan.chunks()])


@dataclass
class _Plan:
    """How rows are made, and made again for their gradient."""

    function: Callable[..., Tensor]
    again: Callable[..., Tensor]
    read: Sequence[Tensor]  # ids, and what there is besides
    tensors: Sequence[Tensor]  # what gradients are asked of
    draws: bool
    numbers: int

    def __post_init__(self) -> None:
        self.versions = [_version(t) for t in self.tensors]
        self.device = self.read[0].device
        kind = self.device.type
        self.autocast = (torch.is_autocast_enabled(kind), torch.get_autocast_dtype(kind))
        self.random: list[tuple[Tensor, ...]] = []
        self.kept: list[tuple[list[Tensor], Tensor]] = []

    def chunks(self) -> Iterator[list[Tensor]]:
        for start in range(0, len(self.read[0]), _CHUNK):
            with torch.enable_grad():  # gradients are asked of the parts
                chunk = [part[start : start + _CHUNK] for part in self.read]
            yield chunk

    @contextmanager
    def conditions(self, index: int | None = None) -> Iterator[None]:
        """Autocast as it was at first, and with an index the random numbers of that chunk."""
        enabled, dtype = self.autocast
        device = self.device
        # Without its cache: a cast made without gradient would be taken for one with it.
        with torch.autocast(device.type, dtype, enabled, cache_enabled=False):
            if index is None or not self.draws:
                yield
                return
            with torch.random.fork_rng([device] if device.type == "cuda" else []):
                torch.set_rng_state(self.random[index][0])
                if device.type == "cuda":
                    torch.cuda.set_rng_state(self.random[index][1], device)
                yield

    def make(self) -> Tensor:
        rows, held, device = [], 0, self.device
        most = 0 if is_checkpointed() else _KEPT
        with self.conditions():
            for chunk in self.chunks():
                if self.draws:
                    gpu = [torch.cuda.get_rng_state(device)] if device.type == "cuda" else []
                    self.random.append((torch.get_rng_state(), *gpu))
                held += self.numbers * len(chunk[0])
                if held > most:
                    rows.append(self.function(*chunk))
                    continue
                with torch.enable_grad():
                    self.kept.append((chunk, self.function(*chunk)))
                rows.append(self.kept[-1][1].detach())
        return torch.cat(rows)

    def gradients(self, upstream: Tensor) -> list[Tensor | None]:
        """The gradient of each of `tensors`; with a graph where one is wanted."""
        if [_version(t) for t in self.tensors] != self.versions:
            raise RuntimeError(
                "A parameter was changed in place between the forward and the backward pass of "
                "rows that are computed from it."
            )
        graph = torch.is_grad_enabled()
        upstream = upstream.to_dense() if upstream.is_sparse else upstream
        wanted = [place for place, t in enumerate(self.tensors) if t.requires_grad]
        if not wanted:  # all were frozen since
            return [None] * len(self.tensors)
        found: dict[int, list[Tensor]] = {place: [] for place in wanted}
        kept, self.kept = ([] if graph else self.kept), []
        pairs = zip(self.chunks(), upstream.split(_CHUNK), strict=True)
        for i, (chunk, given) in enumerate(pairs):
            if i < len(kept):
                chunk, made = kept[i]
            else:
                with torch.enable_grad(), self.conditions(i):
                    made = (self.function if graph else self.again)(*chunk)
            sources = [*chunk[1:], *self.tensors[len(chunk) - 1 :]]
            asked = [sources[place] for place in wanted]
            with _without_hooks(asked):
                gradients = torch.autograd.grad(made, asked, given, None, graph, allow_unused=True)
            for place, gradient in zip(wanted, gradients, strict=True):
                if gradient is None:
                    continue
                if sources[place] is not self.tensors[place]:  # rows of its own
                    found[place].append(gradient)
                    continue
                # In low precision, chunks would be lost in their sum.
                wide = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
                found[place] = [sum(found[place], wide)]
        total: list[Tensor | None] = [None] * len(self.tensors)
        for place, parts in found.items():
            if parts:
                whole = torch.cat(parts) if len(parts) > 1 else parts[0]
                total[place] = whole.to(self.tensors[place].dtype)
        return total


@contextmanager
def _without_hooks(tensors: Sequence[Tensor]) -> Iterator[None]:
    """Lets no hook see the gradient of a chunk: it is called with that of all rows later."""
    hooks = [(t._backward_hooks, dict(t._backward_hooks)) for t in tensors if t._backward_hooks]
    for kept, _ in hooks:
        kept.clear()
    try:
        yield
    finally:
        for kept, own in hooks:
            kept.update(own)


class _Made(torch.autograd.Function):
    """Rows by a plan. Nothing is saved that a backward pass frees: there may be several."""

    @staticmethod
    def forward(ctx: Any, plan: _Plan, *tensors: Tensor) -> Tensor:  # noqa: ANN401
        ctx.plan = plan
        return plan.make()

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        return None, *ctx.plan.gradients(upstreams[0])


def is_checkpointed() -> bool:
    """Whether `torch.utils.checkpoint` counts what is saved for the gradient, to make it again."""
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)  # pyright: ignore[reportAttributeAccessIssue]
    return getattr(hooks and hooks[0], "__module__", None) == "torch.utils.checkpoint"


def look_up(ids: Tensor, rows: Tensor) -> Tensor:
    """``rows[ids]`` with a gradient that is added to that of another reader in place.

    It is sparse: a dense one would be a table by itself.
    """
    return _LookUp.apply(ids, rows)


class _LookUp(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, ids: Tensor, rows: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(ids)
        ctx.shape = rows.shape
        return F.embedding(ids, rows)

    @staticmethod
    def backward(ctx: Any, *upstreams: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        ids, values = ctx.saved_tensors[0].flatten(), upstreams[0].reshape(-1, ctx.shape[1])
        if torch.is_grad_enabled():  # a second derivative is wanted
            return None, values.new_zeros(ctx.shape).index_add(0, ids, values)
        sparse = torch.sparse_coo_tensor(ids[None], values, ctx.shape, check_invariants=False)
        return None, sparse
