"""One tiny forward pass: whether two models give the same for the same few tokens."""

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel
from transformers.modeling_outputs import BaseModelOutput

from define.embedding.base import table_size

__all__ = ["compare", "evaluating", "output", "tiny_batch", "unchecked"]

_TIME = 6


def tiny_batch(model: PreTrainedModel, rows: int | None = None) -> dict[str, Any]:
    """Arguments for one forward pass over a few tokens.

    Args:
        model: A model that reads tokens, alone or beside images or sound.
        rows: Ids stay below this; the rows of the input table if omitted.
    """
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
            batch = {
                "encoder_outputs": BaseModelOutput(
                    last_hidden_state=cast(Any, states.view(1, _TIME, width))
                ),
                "decoder_input_ids": batch["decoder_input_ids"],
            }
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
            yield from [v for v in (value if isinstance(value, list) else [value]) if _is_id(v)]


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
def evaluating(model: nn.Module) -> Iterator[None]:
    """Without dropout and with the same random numbers; leaves the model and the seed as found."""
    modes = [(module, module.training) for module in model.modules()]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        try:
            model.eval()
            yield
        finally:
            for module, mode in modes:
                module.training = mode


def compare(what: str, found: Tensor, expected: Tensor) -> None:
    """Checks that two outputs agree within what rounding explains.

    Raises:
        ValueError: If they do not.
    """
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
