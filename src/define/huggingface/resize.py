"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from define.embedding import resize
from define.embedding.base import table_size
from define.huggingface.check import compare, output, tiny_batch, unchecked
from define.huggingface.head import TiedHead
from define.huggingface.install import places_of

__all__ = ["resize_model"]


def resize_model(
    model: PreTrainedModel,
    size: int | None,
    multiple: int | None,
    mean: bool,
    check: bool,
) -> None:
    """Resizes the input embedding, the heads and the configuration, in place."""
    name = type(model).__name__
    place, *others = [place for place in places_of(model) if place.inputs]
    if others or place.table is not None:
        tables = [found.inputs[0] for found in (place, *others)]
        raise ValueError(f"{name} has tables of its own in {tables}: it cannot be resized.")
    old = place.num_embeddings
    size = old if size is None else size
    if multiple is not None:
        if multiple < 1:
            raise ValueError(f"pad_to_multiple_of={multiple} must be at least 1.")
        size = -(-size // multiple) * multiple
    if size == old:
        return
    before, batch = None, {}
    if check and size > 0:
        batch = tiny_batch(model, min(old, size))
        try:
            before = output(model, batch)
        except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
            unchecked(f"{name}.resize_token_embeddings", error)
    resize(place.embedding(model), size, mean)
    head = model.get_output_embeddings()
    if isinstance(head, TiedHead) or (head is not None and _rows(head) == old):
        _resize_head(model, head, size, mean)
    resize_bias = getattr(model, "_resize_final_logits_bias", None)
    if resize_bias is not None:  # Marian and its relatives
        resize_bias(size)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and vars(module).get("vocab_size") == old:
            cast(Any, module).vocab_size = size
    config = model.config.get_text_config()
    for part in {id(config): config, id(model.config): model.config}.values():
        for key in ("vocab_size", "decoder_vocab_size"):
            if getattr(part, key, None) == old:
                setattr(part, key, size)
    cast(Any, model)._define_places = tuple(
        replace(found, num_embeddings=size) if found is place else found
        for found in places_of(model)
    )
    if before is not None:
        rows = min(old, size)
        after = output(model, batch)
        if before.shape[-1] == old:  # logits
            before, after = before[..., :rows], after[..., :rows]
        compare(f"{name} with {size} instead of {old} tokens", after, before)


def _rows(head: nn.Module) -> int:
    return cast(int, getattr(head, "out_features", -1))


def _resize_head(model: PreTrainedModel, head: nn.Module, size: int, mean: bool) -> None:
    bias = cast(nn.Parameter | None, head.bias)
    if isinstance(head, TiedHead):
        if table_size(head.tied)[0] != size:  # its own
            resize(head.tied, size, mean)
        new = None if bias is None else nn.Parameter(_longer(bias, size), bias.requires_grad)
    else:
        head = model._get_resized_lm_head(cast(nn.Linear, head), size, mean_resizing=mean)
        new = head.bias
        model.set_output_embeddings(head)
    if bias is None or new is None:
        return
    # One parameter may be the bias of several modules: BERT's head and its last layer.
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if parameter is bias:
                setattr(module, name, new)
    cast(Any, head).bias = new


@torch.no_grad()
def _longer(bias: Tensor, size: int) -> Tensor:
    return torch.cat([bias[:size], bias.new_zeros(max(size - len(bias), 0))])
