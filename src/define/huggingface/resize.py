"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

import copy
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from define.embedding import resize
from define.embedding.base import table_size
from define.embedding.contract import check_resize
from define.embedding.tables import resized
from define.huggingface.install import described, places_of
from define.huggingface.tables import (
    chosen_tables,
    row_counts,
    set_sizes,
    vocabularies,
    without_memory,
)
from define.huggingface.twins import assemble, compare, output, plain_config, tiny_batch, unchecked

__all__ = ["resize_model"]

_Sizes = dict[tuple[str, ...], int]  # of vocabularies, by the path to a configuration's setting


def resize_model(
    model: PreTrainedModel,
    size: int | None,
    multiple: int | None,
    mean: bool,
    table: str | None,
    check: bool,
) -> str:
    """Resizes a table and all that follows its size, in place.

    What that is, the plain model says: made on the meta device from a configuration with another
    size, it has some tensors of another shape.

    Returns:
        The name of the module that looks tokens up in the table.
    """
    name = type(model).__name__
    for place in places_of(model):
        entry = place.owner(model)
        if place.table == table or (table is None and entry is model.get_input_embeddings()):
            inputs = place.inputs
            break
    else:
        inputs = chosen_tables(model, table)[0].inputs
    if not inputs:
        raise ValueError(f"{table} of {name} follows its input table: resize that.")
    entry = model.get_submodule(inputs[0])
    old = table_size(entry)[0]
    size = old if size is None else size
    if multiple is not None:
        if multiple < 1:
            raise ValueError(f"pad_to_multiple_of={multiple} must be at least 1.")
        size = -(-size // multiple) * multiple
    if size == old:
        return inputs[0]
    check_resize(size, cast(Any, entry).padding_idx)
    base, config = cast(Any, type(model)).base_class, plain_config(model.config)
    sizes = _sizes(base, config, inputs, size, entry is model.get_input_embeddings())
    if check:
        _check(model, base, config, sizes, inputs, size)
    _resize(model, base, config, sizes, mean)
    return inputs[0]


def _sizes(
    base: type[PreTrainedModel],
    config: PreTrainedConfig,
    inputs: tuple[str, ...],
    size: int,
    along: bool,
) -> _Sizes:
    """The settings that a table's number of rows follows, and what follows with it."""
    before, name = row_counts(without_memory(base, config)), inputs[0]
    known = vocabularies(config)
    sizes: _Sizes = {}
    beside: _Sizes = {}
    for path, value in known.items():
        try:
            after = row_counts(without_memory(base, config, {path: value + 1}))
        except Exception:  # noqa: BLE001, S112  # of any model's code: not this one alone
            continue
        if after.get(name) == before[name] + 1:
            sizes[path] = value + size - before[name]
        elif {key for key, rows in after.items() if rows != before.get(key)} <= {*inputs}:
            beside[path] = value
    if not sizes:
        raise ValueError(
            f"No setting of a {type(config).__name__} changes the rows of {name}: it cannot be "
            "resized."
        )
    # Marian's decoder_vocab_size has no effect while the tables are shared; it goes along.
    parts = {(), *(path[:-1] for path in sizes)}
    new = {known[path]: size for path, size in sizes.items()}
    sizes |= {p: new[v] for p, v in beside.items() if p[:-1] in parts and v in new}
    if along and base.resize_token_embeddings is not PreTrainedModel.resize_token_embeddings:
        plain = without_memory(base, config)
        with suppress(Exception):  # of any model's code
            plain.resize_token_embeddings(size, mean_resizing=False)  # Gemma's tables of the layers
            after = vocabularies(plain.config)
            sizes = {path: after[path] for path in known if after[path] != known[path]} | sizes
    return sizes


def _check(
    model: PreTrainedModel,
    base: type[PreTrainedModel],
    plain: PreTrainedConfig,
    sizes: _Sizes,
    inputs: tuple[str, ...],
    size: int,
) -> None:
    """Resizes a twin that shares all weights but the embedding's, and compares outputs."""
    old = table_size(model.get_submodule(inputs[0]))[0]
    what = f"{type(model).__name__} with {size} instead of {old} tokens"
    try:
        rows = min(old, size, table_size(model.get_input_embeddings())[0])
        batch = tiny_batch(model, rows)
        before = output(model, batch)
        config = copy.deepcopy(model.config)
        config.define = {**config.define, **described(model)}
        twin = assemble(type(model), config, model)
    except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
        return unchecked(what, error)
    _resize(twin, base, plain, sizes, True)
    ends = {"input_ids": table_size(twin.get_input_embeddings())[0], "decoder_input_ids": size}
    last = {k: batch[k] * 0 + min(size, ends[k]) - 1 for k in _read(model, inputs) if k in batch}
    try:
        after, _ = output(twin, batch), output(twin, {**batch, **last})
    except Exception as error:
        raise ValueError(
            f"{what} does not run ({type(error).__name__}: {error}): it depends on its vocabulary "
            "in a way that is not understood. check=False resizes it nevertheless."
        ) from error
    rows = min(before.shape[-1], after.shape[-1])  # of logits; hidden states keep their width
    compare(what, after[..., :rows], before[..., :rows])


def _read(model: PreTrainedModel, inputs: tuple[str, ...]) -> list[str]:
    """The arguments that are looked up in a table."""
    if not model.config.is_encoder_decoder:
        return ["input_ids"]
    sides = {"input_ids": cast(Any, model).get_encoder(), "decoder_input_ids": model.get_decoder()}
    modules = [model.get_submodule(name) for name in inputs]
    return [k for k, side in sides.items() if any(part in modules for part in side.modules())]


def _resize(
    model: PreTrainedModel,
    base: type[PreTrainedModel],
    plain: PreTrainedConfig,
    sizes: _Sizes,
    mean: bool,
) -> None:
    before = without_memory(base, plain)
    after = without_memory(base, plain, sizes)
    owners = {name: found for found in places_of(model) for name in (*found.inputs, *found.heads)}
    olds = dict(before.named_modules(remove_duplicate=False))
    ours = dict(model.named_modules(remove_duplicate=False))
    grown: dict[Tensor, Tensor] = {}  # a bias that a model has in several places stays one
    for name, module in after.named_modules(remove_duplicate=False):
        old, own, place = olds.get(name), ours.get(name), owners.get(name)
        if old is None or own is None:
            continue
        for key, tensor in (*module._parameters.items(), *module._buffers.items()):
            shape = getattr(getattr(old, key), "shape", None)
            if tensor is None or tensor.shape == shape:
                continue
            if place is not None and key == "weight":
                if table_size(place.embedding(model))[0] != len(tensor):
                    resize(place.embedding(model), len(tensor), mean)
                continue
            found = own._parameters.get(key, own._buffers.get(key))
            if found is not None and found.shape == shape and found.is_floating_point():
                if found not in grown:
                    grown[found] = _grown(found, tensor.shape, mean)
                setattr(own, key, grown[found])
        for key, value in vars(module).items():  # such as num_embeddings, vocab_size
            if isinstance(value, int) and vars(old).get(key) != value and key in vars(own):
                setattr(own, key, value)
    set_sizes(model.config, sizes)
    cast(Any, model)._define_places = tuple(
        replace(found, num_embeddings=table_size(found.embedding(model))[0])
        for found in places_of(model)
    )


@torch.no_grad()
def _grown(tensor: Tensor, shape: torch.Size, mean: bool) -> Tensor:
    """A tensor with one dimension of another size: tables get rows like theirs, biases zeros."""
    dim = [a == b for a, b in zip(tensor.shape, shape, strict=True)].index(False)
    rows = tensor.movedim(dim, 0)
    fill = 0.0 if rows[0].numel() == 1 else None
    new = resized(rows.reshape(len(rows), -1), shape[dim], mean=mean, fill=fill)
    new = new.view(-1, *rows.shape[1:]).movedim(0, dim).contiguous()
    return nn.Parameter(new, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else new
