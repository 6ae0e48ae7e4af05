"""A model of another class around the tensors of one that is there."""

import copy
from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

__all__ = ["assemble"]


def assemble(
    cls: type[PreTrainedModel],
    config: PreTrainedConfig,
    source: PreTrainedModel,
    weights: Mapping[str, Tensor] | None = None,
    *,
    share: bool = True,
    embeddings: Mapping[str | None, nn.Module] | None = None,
) -> PreTrainedModel:
    """Makes a model without memory of its own, then gives it the tensors of another by name.

    Args:
        cls: Class of the new model.
        config: Its configuration.
        source: Where tensors come from.
        weights: Tensors to take instead, by name.
        share: Whether parameters are new objects in the memory of the old ones, one for each;
            otherwise each is a copy, and tied as `config` says.
        embeddings: Those of a :class:`DefineModel` that are there already; they stay as they are.

    Raises:
        ValueError: If a tensor has no counterpart: the model was changed since it was made.
    """
    options = {} if embeddings is None else {"embeddings": embeddings}
    with torch.device("meta"):
        model = cast(Any, cls)._from_config(config, dtype=source.dtype, **options)
    without = _leave_out(model, source)
    if without and hasattr(model.config, "define"):
        model.config.define["without"] = without
    weights = weights or {}
    given = {part for embedding in (embeddings or {}).values() for part in embedding.modules()}
    modules = dict(source.named_modules(remove_duplicate=False))
    taken: dict[int, Tensor] = {}
    computed: list[nn.Module] = []
    for prefix, module in model.named_modules(remove_duplicate=False):
        if module in given:
            continue
        old = modules.get(prefix)
        for container in (module._parameters, module._buffers):
            for key, tensor in container.items():
                if tensor is None:
                    continue
                name = f"{prefix}.{key}".removeprefix(".")
                own = None if old is None else old._parameters.get(key, old._buffers.get(key))
                value = weights.get(name, own)
                if value is None and not tensor.is_meta:
                    continue  # drawn with the head
                if value is None and key in module._non_persistent_buffers_set:
                    container[key] = torch.empty_like(tensor, device=source.device)
                    computed.append(module)  # a table's own, such as Gemma's scale
                    continue
                if value is None or value.shape != tensor.shape:
                    raise ValueError(
                        f"{name} of a {cls.__name__} is not in this {type(source).__name__}, which "
                        "was changed since it was made: replace its embedding first."
                    )
                trains = own.requires_grad if own is not None else True
                made = _taken(value, isinstance(tensor, nn.Parameter), trains, share)
                container[key] = taken.setdefault(id(value), made) if share else made
        if old is not None:
            _take_state(module, old)
    for module in computed:
        cast(Any, module)._is_hf_initialized = False
    if computed:
        model.initialize_weights()
    if not share:
        # Some configurations (T5's) tie whatever they are told; what differs is not tied, as by
        # `from_pretrained`.
        ties = model.all_tied_weights_keys
        model.all_tied_weights_keys = {
            name: first for name, first in ties.items() if weights.get(name) is weights.get(first)
        }
        model.tie_weights(recompute_mapping=False)
    if source.can_generate():
        model.generation_config = copy.deepcopy(source.generation_config)
    return model


def _leave_out(model: nn.Module, source: nn.Module) -> list[str]:
    """Leaves out what `source` was made without, such as the pooler of BERT below a head."""
    left: list[str] = []
    for name, child in list(model.named_children()):
        old = getattr(source, name, None)
        if isinstance(old, nn.Module):
            left += [f"{name}.{part}" for part in _leave_out(child, old)]
        elif hasattr(source, name):
            setattr(model, name, None)
            left.append(name)
    return left


def _taken(value: Tensor, is_parameter: bool, trains: bool, share: bool) -> Tensor:
    value = value.detach() if share else value.detach().clone()
    if not is_parameter:
        return value
    parameter = nn.Parameter(value, trains)
    cast(Any, parameter)._is_hf_initialized = True
    return parameter


def _take_state(module: nn.Module, old: nn.Module) -> None:
    """Training mode, checkpointing, and tensors that are neither parameters nor buffers."""
    module.training = old.training
    cast(Any, module)._is_hf_initialized = True
    for key, value in vars(old).items():
        stale = isinstance(vars(module).get(key), Tensor) and vars(module)[key].is_meta
        if stale or key in ("gradient_checkpointing", "_gradient_checkpointing_func"):
            vars(module)[key] = value
