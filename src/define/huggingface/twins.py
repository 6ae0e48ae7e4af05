"""A second model around the tensors of one that is there, and whether both compute the same."""

import copy
import inspect
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from define import modes
from define.embedding import tables
from define.embedding.base import table_size

__all__ = [
    "assemble",
    "compare",
    "config_as",
    "evaluating",
    "output",
    "plain_config",
    "tiny_batch",
    "unchecked",
]

_TIME = 6


def plain_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy without the embeddings of this package."""
    plain = config_as(config, cast(Any, type(config)).base_class)
    vars(plain).pop("define")
    vars(plain).pop("auto_map", None)
    return plain


def config_as(config: PreTrainedConfig, cls: type[PreTrainedConfig]) -> Any:  # noqa: ANN401
    """A deep copy as another class: its fields need not pass through its constructor again."""
    copied = cls.__new__(cls)
    vars(copied).update(copy.deepcopy(vars(config)))
    return copied


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
        embeddings: Those of a `DefineModel` that are there already.

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
                if value is None and (not tensor.is_meta or source.device.type == "meta"):
                    continue  # drawn with the head, or there is nothing to draw
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


def tiny_batch(model: PreTrainedModel, rows: int | None = None) -> dict[str, Any]:
    """Arguments for one forward pass over a few tokens, below `rows` if given."""
    config, device = model.config, model.device
    text = config.get_text_config()
    if rows is None:
        rows = table_size(model.get_input_embeddings())[0]
    special = set(_special_ids(config))
    ordinary = [id_ for id_ in range(min(rows, len(special) + 40)) if id_ not in special]
    ids = (ordinary or [0])[-_TIME:]
    named = [getattr(text, f"{name}_token_id", None) for name in ("pad", "eos")]
    ids += [id_ for id_ in named if isinstance(id_, int) and 0 <= id_ < rows]
    tokens = torch.tensor([ids], device=device)
    names = inspect.signature(model.forward).parameters
    batch: dict[str, Any] = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
    if config.is_encoder_decoder and "decoder_input_ids" in names:
        batch["decoder_input_ids"] = tokens.clamp_max(_decoder_rows(model, rows) - 1)
        if model.main_input_name != "input_ids" and "encoder_outputs" in names:
            encoder = cast(Any, config).to_dict().get("encoder") or {}
            width = encoder.get("hidden_size", text.hidden_size)
            states = torch.linspace(-1, 1, _TIME * width, device=device, dtype=model.dtype)
            states = BaseModelOutput(last_hidden_state=cast(Any, states.view(1, _TIME, width)))
            batch = {"encoder_outputs": states, "decoder_input_ids": batch["decoder_input_ids"]}
    pixels = names.get("pixel_values")
    if pixels is not None and pixels.default is pixels.empty:  # it does not run without
        vision = config.vision_config
        shape = (1, getattr(vision, "num_channels", 3), vision.image_size, vision.image_size)
        batch["pixel_values"] = torch.zeros(shape, device=device, dtype=model.dtype)
    batch["use_cache"] = False
    if not any(p.kind is inspect.Parameter.VAR_KEYWORD for p in names.values()):
        batch = {name: value for name, value in batch.items() if name in names}
    elif "use_cache" not in names:
        batch.pop("use_cache")
    return batch


def _decoder_rows(model: PreTrainedModel, rows: int) -> int:
    try:
        return table_size(model.get_decoder().get_input_embeddings())[0]
    except (NotImplementedError, AttributeError, TypeError):
        return min(rows, getattr(model.config, "decoder_vocab_size", None) or rows)


def _special_ids(config: PreTrainedConfig) -> Iterator[int]:
    """Ids with a meaning of their own, such as the place of an image."""
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from _special_ids(value)
        elif key.endswith(("_id", "_index", "_ids")):
            for id_ in value if isinstance(value, list) else [value]:
                if isinstance(id_, int) and not isinstance(id_, bool):
                    yield id_


@torch.no_grad()
def output(model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
    """Logits, or what the model gives first, for a batch; in the type that it computes with."""
    with evaluating(model):
        found = model(**batch)
    values = found.values() if isinstance(found, dict) else found
    first = getattr(found, "logits", None)
    if not isinstance(first, Tensor):
        first = next(v for v in values if isinstance(v, Tensor) and v.is_floating_point())
    # Mamba gives logits of float32 whatever it computes with.
    return first.to(model.dtype) if _is_low(model.dtype) else first


def _is_low(dtype: torch.dtype) -> bool:
    return torch.finfo(dtype).bits < 32


@contextmanager
def evaluating(model: PreTrainedModel) -> Iterator[None]:
    """Without dropout and with the same random numbers; leaves the model and the seed as found."""
    with tables.seeded(0, model.device), modes.evaluating(model):
        yield


def compare(what: str, found: Tensor, expected: Tensor) -> None:
    """Refuses outputs that differ by more than rounding explains."""
    if found.shape == expected.shape:
        low = _is_low(expected.dtype)
        known = expected.isfinite()
        found, expected = found[known].float(), expected[known].float()
        size = float(expected.abs().max()) if len(expected) else 0.0
        difference = float((found - expected).abs().max()) if len(expected) else 0.0
        if difference <= (0.1 if low else 1e-3) * max(size, 1e-6):  # not for NaN
            return
        words = f"by up to {difference:.3g} where the largest is {size:.3g}"
    else:
        words = f"{tuple(found.shape)} instead of {tuple(expected.shape)}"
    raise ValueError(
        f"{what} does not compute what it should: outputs for a few tokens differ {words}. The "
        "model uses its table in a way that is not understood; check=False goes on nevertheless."
    )


def unchecked(what: str, error: Exception) -> None:
    """Warns that a model could not be run on a few tokens."""
    warnings.warn(
        f"{what} was not checked: the model does not run on a few tokens alone "
        f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}). "
        "Compare outputs yourself, and pass check=False to leave the check out.",
        stacklevel=3,
    )
