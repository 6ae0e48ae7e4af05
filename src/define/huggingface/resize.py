"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

import copy
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from define.embedding import resize
from define.embedding.base import table_size
from define.huggingface.assemble import assemble
from define.huggingface.check import compare, output, tiny_batch, unchecked
from define.huggingface.head import TiedHead
from define.huggingface.install import Place, described, places_of

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
    place, *others = [place for place in places_of(model) if place.inputs] or [None]
    if place is None or others or place.table is not None:
        tables = [found.name for found in places_of(model)]
        raise ValueError(f"{name} has an embedding of this package in {tables}: resize it before.")
    old = place.num_embeddings
    size = old if size is None else size
    if multiple is not None:
        if multiple < 1:
            raise ValueError(f"pad_to_multiple_of={multiple} must be at least 1.")
        size = -(-size // multiple) * multiple
    if size == old:
        return
    if check and size > 0:
        _check(model, place, size)
    _resize(model, place, size, mean)


def _check(model: PreTrainedModel, place: Place, size: int) -> None:
    """Resizes a twin that shares all weights but the embedding's, and compares outputs."""
    what = f"{type(model).__name__} with {size} instead of {place.num_embeddings} tokens"
    try:
        batch = tiny_batch(model, min(place.num_embeddings, size))
        before = output(model, batch)
        config = copy.deepcopy(model.config)
        config.define = {**config.define, **described(model)}
        twin = assemble(type(model), config, model)
    except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
        return unchecked(what, error)
    _resize(twin, place, size, True)
    last = {k: v * 0 + size - 1 for k, v in batch.items() if k.endswith("input_ids")}
    try:
        after, _ = output(twin, batch), output(twin, {**batch, **last})
    except Exception as error:
        raise ValueError(
            f"{what} does not run ({type(error).__name__}: {error}): it depends on its vocabulary "
            "in a way that is not understood. check=False resizes it nevertheless."
        ) from error
    rows = min(before.shape[-1], after.shape[-1])  # of logits; hidden states keep their width
    before, after = before[..., :rows], after[..., :rows]
    compare(what, after, before)


def _resize(model: PreTrainedModel, place: Place, size: int, mean: bool) -> None:
    old = place.num_embeddings
    resize(place.embedding(model), size, mean)
    head = model.get_output_embeddings()
    words = getattr(model.config.get_text_config(), "vocab_size", old)
    if isinstance(head, TiedHead) or (head is not None and _rows(head) in (old, words)):
        _resize_head(model, head, _rows(head) + (0 if _rows(head) == size else size - old), mean)
    resize_bias = getattr(model, "_resize_final_logits_bias", None)
    if resize_bias is not None:  # Marian and its relatives
        resize_bias(size)
    _resize_config(model, old, size)
    cast(Any, model)._define_places = tuple(
        replace(found, num_embeddings=table_size(found.embedding(model))[0])
        for found in places_of(model)
    )


def _resize_config(model: PreTrainedModel, old: int, size: int) -> None:
    """Sets the sizes of the vocabulary; some tables have more rows than that, by a constant."""
    text = model.config.get_text_config()
    words = getattr(text, "vocab_size", old)
    for part in {id(text): text, id(model.config): model.config}.values():
        for key in ("vocab_size", "decoder_vocab_size"):
            if getattr(part, key, None) in (old, words):
                setattr(part, key, getattr(part, key) + size - old)
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and vars(module).get("vocab_size") in (old, words):
            cast(Any, module).vocab_size += size - old


def _rows(head: nn.Module) -> int:
    return cast(int, getattr(head, "out_features", -1))


def _resize_head(model: PreTrainedModel, head: nn.Module, size: int, mean: bool) -> None:
    old = len(cast(Tensor, head.bias)) if head.bias is not None else size
    longer: dict[int, nn.Parameter] = {}
    parents = [part for part in model.modules() if head in part._modules.values()]
    if isinstance(head, TiedHead):
        if table_size(head.tied)[0] != size:  # its own
            resize(head.tied, size, mean)
    else:
        old = _rows(head)
        new = model._get_resized_lm_head(cast(nn.Linear, head), size, mean_resizing=mean)
        if head.bias is not None:
            longer[id(head.bias)] = cast(nn.Parameter, new.bias)
        for parent in parents:
            for name, child in parent._modules.items():
                if child is head:
                    setattr(parent, name, new)
    # A bias may stand beside the head instead of in it, or in both (BERT, RoBERTa, Reformer).
    for part in (head, *parents):
        for parameter in part._parameters.values():
            if parameter is not None and parameter.shape == (old,) and id(parameter) not in longer:
                longer[id(parameter)] = nn.Parameter(
                    _longer(parameter, size), parameter.requires_grad
                )
    for module in model.modules():
        for name, parameter in list(module._parameters.items()):
            if id(parameter) in longer:
                setattr(module, name, longer[id(parameter)])


@torch.no_grad()
def _longer(bias: Tensor, size: int) -> Tensor:
    return torch.cat([bias[:size], bias.new_zeros(max(size - len(bias), 0))])
