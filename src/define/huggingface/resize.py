"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from define.embedding import resize
from define.embedding.base import table_size
from define.embedding.contract import check_resize
from define.embedding.tables import resized
from define.huggingface.assemble import assemble
from define.huggingface.check import compare, output, tiny_batch, unchecked
from define.huggingface.install import described, places_of
from define.huggingface.tables import chosen_tables

__all__ = ["resize_model"]

_Keys = list[tuple[str, ...]]  # paths to settings of a configuration and its parts


def resize_model(
    model: PreTrainedModel,
    size: int | None,
    multiple: int | None,
    mean: bool,
    table: str | None,
    plain_config: PreTrainedConfig,
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
    base = cast(Any, type(model)).base_class
    keys = _keys(base, plain_config, inputs)
    if check:
        _check(model, base, plain_config, keys, inputs, size)
    _resize(model, base, plain_config, keys, size - old, mean)
    return inputs[0]


def _keys(base: type[PreTrainedModel], config: PreTrainedConfig, inputs: tuple[str, ...]) -> _Keys:
    """The settings that a table's number of rows follows."""
    before = _rows(_made(base, config))
    setting, beside = [], []
    for path in _paths(config):
        try:
            after = _rows(_made(base, _changed(config, [path], 1)))
        except Exception:  # noqa: BLE001, S112  # of any model's code: not this one alone
            continue
        differ = {name for name, rows in after.items() if rows != before.get(name)}
        if after.get(inputs[0]) == before[inputs[0]] + 1:
            setting.append(path)
        elif differ <= {*inputs}:
            beside.append(path)
    if not setting:
        raise ValueError(
            f"No setting of a {type(config).__name__} changes the rows of {inputs[0]}: it cannot "
            "be resized."
        )
    parts = {(), *(path[:-1] for path in setting)}
    values = [_value(config, path) for path in setting]
    # Marian's decoder_vocab_size has no effect while the tables are shared; it goes along.
    return setting + [p for p in beside if p[:-1] in parts and _value(config, p) in values]


def _paths(config: PreTrainedConfig) -> Iterator[tuple[str, ...]]:
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            yield from ((key, *path) for path in _paths(value))
        elif "vocab_size" in key and isinstance(value, int):
            yield (key,)


def _value(config: Any, path: tuple[str, ...]) -> int:  # noqa: ANN401
    for key in path:
        config = getattr(config, key)
    return config


def _changed(config: PreTrainedConfig, keys: _Keys, change: int) -> PreTrainedConfig:
    config = copy.deepcopy(config)
    for *parts, key in keys:
        part = _value(config, tuple(parts))
        setattr(part, key, getattr(part, key) + change)
    return config


def _made(base: type[PreTrainedModel], config: PreTrainedConfig) -> PreTrainedModel:
    with torch.device("meta"):
        return cast(Any, base)._from_config(copy.deepcopy(config))


def _rows(model: nn.Module) -> dict[str, int]:
    modules = model.named_modules(remove_duplicate=False)
    return {name: part.num_embeddings for name, part in modules if isinstance(part, nn.Embedding)}


def _check(
    model: PreTrainedModel,
    base: type[PreTrainedModel],
    plain: PreTrainedConfig,
    keys: _Keys,
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
    _resize(twin, base, plain, keys, size - old, True)
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
    keys: _Keys,
    change: int,
    mean: bool,
) -> None:
    before = _made(base, plain)
    after = _made(base, _changed(plain, keys, change))
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
    for *parts, key in keys:
        part = _value(model.config, tuple(parts))
        setattr(part, key, getattr(part, key) + change)
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
