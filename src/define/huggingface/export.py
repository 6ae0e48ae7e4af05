"""Folds embeddings back: a plain model of transformers that needs nothing of this package."""

import warnings
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from define.huggingface.assemble import assemble
from define.huggingface.check import compare, output, tiny_batch, unchecked
from define.huggingface.head import TiedHead
from define.huggingface.install import places_of
from define.huggingface.model import plain_config

__all__ = ["export"]


@torch.no_grad()
def export(model: PreTrainedModel, *, check: bool = True) -> PreTrainedModel:
    """The same model with its embeddings, and tied heads, as plain tables.

    The result is of the class that `replace_embedding` was given. Its `save_pretrained` writes a
    checkpoint that any program reads without this package. The head ``E P`` has a table of its
    own then, V × m, unless it equals the input's; models with several names for one input table
    (Marian) store it under each of them as soon as their head is no longer tied.

    Args:
        model: A model with an embedding of this package; it stays as it is.
        check: Whether both must give the same for a few tokens.

    Returns:
        A plain model on the same device and of the same type.

    Raises:
        TypeError: If the model has no embedding of this package.
        ValueError: If the plain model gives other outputs.
    """
    places = places_of(model)
    if not places:
        raise TypeError(f"{type(model).__name__} has no embedding of this package to fold back.")
    weights: dict[str, Tensor] = {}
    names = [name for place in places for name in place.heads]
    if not names:
        head = model.get_output_embeddings()
        names = [name for name, part in model.named_modules() if head is not None and part is head]
    untied = False
    for place in places:
        table = cast(Tensor, place.embedding(model).weight)
        weights |= {f"{name}.weight": table for name in place.inputs}
        heads = [model.get_submodule(name) for name in place.heads]
        untied |= bool(place.inputs and names) and not heads
        for name, head in zip(place.heads, heads, strict=True):
            weight = cast(Tensor, head.weight)
            same = isinstance(head, TiedHead) and weight.shape == table.shape
            same = same and torch.equal(weight, table)
            weights[f"{name}.weight"] = table if same else weight
            untied |= not same
    config = plain_config(model.config)
    if untied:
        config.tie_word_embeddings = False
        for part in vars(config).values():  # what has a flag of its own ties by it
            if getattr(part, "tie_word_embeddings", False):
                part.tie_word_embeddings = False
        config = _reread(config)
    plain = assemble(cast(Any, type(model)).base_class, config, model, weights, share=False)
    what = f"The export of a {type(model).__name__}"
    if untied and config.tie_word_embeddings:
        warnings.warn(
            f"{what} has a head of its own, but a {type(config).__name__} says that it is tied, "
            "whatever it is told: transformers sees that tables differ, other programs may not.",
            stacklevel=2,
        )
    try:
        batch = tiny_batch(model)
        expected = output(model, batch)
    except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
        unchecked(what, error)
        return plain
    if untied:
        _rescale(model, plain, names[0], batch)
    if check:
        compare(what, output(plain, batch), expected)
    return plain


def _reread(config: PreTrainedConfig) -> PreTrainedConfig:
    """A configuration as a file of it will be read: some settings follow from others only there."""
    read = type(config).from_dict(config.to_diff_dict())
    _take_implementations(read, config)
    return read


def _take_implementations(new: PreTrainedConfig, old: PreTrainedConfig) -> None:
    # Part by part: what is set for a whole model is set for all of its parts.
    for key, value in vars(old).items():
        if key.endswith("_implementation_internal"):
            vars(new)[key] = value
        elif isinstance(value, PreTrainedConfig) and isinstance(
            part := vars(new).get(key), PreTrainedConfig
        ):
            _take_implementations(part, value)


def _rescale(
    model: PreTrainedModel, plain: PreTrainedModel, name: str, batch: dict[str, Any]
) -> None:
    """Some models (UMT5) scale what their head reads only where it is tied: its table follows."""
    read: list[Tensor] = []
    for part in (model, plain):
        hook = part.get_submodule(name).register_forward_pre_hook(
            lambda _, inputs: read.append(inputs[0].float())
        )
        try:
            output(part, batch)
        finally:
            hook.remove()
    if len(read) == 2:
        ours, theirs = (states.flatten() for states in read)
        factor = (ours @ theirs) / (ours @ ours)
        if not torch.isclose(factor, factor.new_ones(()), rtol=1e-3):
            cast(nn.Linear, plain.get_submodule(name)).weight.div_(factor)
