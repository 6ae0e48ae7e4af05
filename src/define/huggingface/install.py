"""Puts an embedding in all places of a token table, and ties the head to it."""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import nn
from transformers import PreTrainedModel

from define.embedding import tied_table
from define.embedding.tables import table_size
from define.huggingface.borrowed import BorrowedEmbedding
from define.huggingface.head import TiedHead
from define.huggingface.places import Places, put
from define.huggingface.scaled import ScaledEmbedding, input_scale

__all__ = ["Factory", "install", "make_embedding"]

Factory = Callable[[int, int], nn.Module]


def make_embedding(places: Places, embedding: Factory | nn.Module) -> nn.Module:
    """An embedding for a place: built, of the right size, with the padding of the old table."""
    table = cast(nn.Embedding, places.table)
    if isinstance(embedding, nn.Module):
        module = embedding
    else:
        module = embedding(table.num_embeddings, table.embedding_dim)
    if not isinstance(module, nn.Module):
        raise TypeError(f"The factory must return a module, not {type(module).__name__}.")
    size, wanted = table_size(module), (table.num_embeddings, table.embedding_dim)
    if size != wanted:
        raise ValueError(
            f"The embedding has (num_embeddings, embedding_dim) = {size}, the model needs {wanted}."
        )
    _keep_padding(module, table.padding_idx)
    return module.to(table.weight.device, table.weight.dtype)


@torch.no_grad()
def _keep_padding(module: Any, padding_idx: int | None) -> None:  # noqa: ANN401
    if padding_idx is None:
        return
    if module.padding_idx is None:
        for part in (module, getattr(module, "map", None)):
            if part is None or part.padding_idx is not None:
                continue
            part.padding_idx = padding_idx
            if isinstance(part, nn.Embedding):
                part.weight[padding_idx].zero_()
    if module.padding_idx != padding_idx:
        raise ValueError(
            f"padding_idx={module.padding_idx} of the embedding must be the model's, {padding_idx}."
        )


def install(model: PreTrainedModel, places: Places, embedding: nn.Module, tie: bool) -> None:
    """Puts an embedding in all places of the table, and ties the head to it where wanted."""
    table = cast(nn.Embedding, places.table)
    scale = input_scale(table)
    entry = embedding if scale == 1.0 else ScaledEmbedding(embedding, scale)
    # What the model ties beside its table, such as the two biases of BERT's head.
    ties = dict(model.all_tied_weights_keys)
    owner, *others = places.inputs
    put(model, owner, entry)
    for name in others:
        put(model, name, BorrowedEmbedding(entry))
    changed = {f"{name}.weight" for name in places.inputs}
    new = [entry]
    if places.head is not None:
        changed.add(f"{places.head}.weight")
        if tie:
            old = cast(nn.Linear, model.get_submodule(places.head))
            weight = table.weight
            head = TiedHead(
                tied_table(embedding),
                table.embedding_dim,
                bias=getattr(old, "bias", None) is not None,
                device=weight.device,
                dtype=weight.dtype,
            )
            if head.bias is not None:
                head.bias = old.bias
            put(model, places.head, head)
            new.append(head)
    ties = {t: s for t, s in ties.items() if t not in changed and s not in changed}
    for module in model.modules():
        if isinstance(module, PreTrainedModel):
            # Inner models would tie what is no longer there.
            inner = cast(Any, module)
            inner._tied_weights_keys = {} if module is model else None
            inner.all_tied_weights_keys = {}
    model._tied_weights_keys = model.all_tied_weights_keys = ties
    cast(Any, model)._define_ties = dict(ties)
    for module in new:
        # transformers draws Linear and Embedding modules anew unless they say that they are
        # drawn. On the meta device they are not.
        if table.weight.device.type != "meta":
            for part in module.modules():
                cast(Any, part)._is_hf_initialized = True
