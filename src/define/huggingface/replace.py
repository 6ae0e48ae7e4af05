"""Puts an embedding of this package in a model of transformers, and folds it back to a table."""

import copy
import warnings
from collections.abc import Callable, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from define.embedding import tied_table
from define.embedding.base import table_size
from define.embedding.description import describe
from define.huggingface.install import Tie, TiedHead, places_of
from define.huggingface.model import define_config, model_class, register
from define.huggingface.tables import Table, chosen_tables, input_tables
from define.huggingface.twins import assemble, compare, output, plain_config, tiny_batch, unchecked

__all__ = ["export", "replace_embedding"]

_Factory = Callable[[int, int], nn.Module]


def replace_embedding(
    model: PreTrainedModel,
    factory: _Factory | nn.Module | Mapping[str | None, _Factory | nn.Module],
    *,
    tie: Tie | None = None,
    table: str | None = None,
    check: bool = True,
) -> PreTrainedModel:
    r"""A model with another token table, and where wanted with its output head tied to that.

    The result is a :class:`DefineModel` of the same architecture: `GPT2LMHeadModel` gives
    `DefineGPT2LMHeadModel`. It saves, loads, generates and trains as before. All other weights are
    those of `model`, not copies of them: training one changes the other. The new embedding is as
    its factory drew it: choose its `std` for training from scratch (GPT-2 draws its table with
    0.02), or give a module that approximates the old table.

    The tied head ``logits = E P h`` has the Map E of the embedding (the whole table where there
    is no Map) and a projection P of its own.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)

    Args:
        model: A causal model, an encoder, or an encoder and decoder; it stays as it is. What it
            adds to its table (scales, output biases, a padding row of zeros) stays too.
        factory: Makes the embedding from ``(num_embeddings, embedding_dim)``, such as
            ``partial(DeFINE, map=64)``; or the embedding itself. A subclass of
            :class:`define.Embedding` or `torch.nn.Embedding`: others cannot be rebuilt when a
            checkpoint is loaded. Without a padding id it is given the model's, if that row is zero.
            Or one for each of several tables by name, None for the model's own input table.
        tie: Whether the output head is tied to the embedding, of several to the decoder's; if
            omitted, where it was tied to the old table. With False, a head that was tied keeps
            that table for itself; with "embedding", E is the table that the embedding computes, as
            wide as the hidden states.
        table: Name of the only table to replace, one of
            :func:`~define.huggingface.find_tables`: one of several input tables, a table of the
            layers, or a head with a table of its own. If omitted, the model's input table, or
            those of encoder and decoder.
        check: Whether a standard table put in the same places must give the model's outputs for a
            few tokens: two forward passes, and memory for a second table.

    Returns:
        A new model.

    Raises:
        TypeError: If `model` is no model of transformers, or of a kind that AutoConfig does not
            know; or the embedding of another class.
        ValueError: If the model has no such table, uses it in a way that is not understood, or has
            an embedding of this package already; if the embedding has another size or padding; if
            there is no head to tie, or `tie` is none of the above.

    Example:
        >>> from functools import partial
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> from define import ProjectedEmbedding
        >>> config = GPT2Config(vocab_size=100, n_embd=32, n_layer=1, n_head=2)
        >>> model = GPT2LMHeadModel(config)
        >>> model = replace_embedding(model, partial(ProjectedEmbedding, map=8, std=0.02))
        >>> model.get_input_embeddings()
        ProjectedEmbedding(
          100, 32
          (map): Embedding(100, 8)
          (projection): GroupLinear(in_features=8, out_features=32, groups=1, bias=False)
        )
        >>> model.get_output_embeddings().projection
        Linear(in_features=32, out_features=8, bias=False)
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"model must be a PreTrainedModel, not {type(model).__name__}.")
    if tie not in (None, False, True, "embedding"):
        raise ValueError(f'{tie=} must be True (the Map), False, "embedding", or left out.')
    name = type(model).__name__
    if places_of(model):
        found = type(places_of(model)[0].embedding(model)).__name__
        raise ValueError(f"{name} already has an embedding of this package, {found}.")
    if getattr(model, "hf_quantizer", None) is not None:
        raise ValueError(f"{name} is quantized: replace the embedding first, then quantize.")
    register(type(model.config))
    if isinstance(factory, Mapping):
        if table is not None:
            raise ValueError(f"{table=} must be left out: the tables are {list(factory)}.")
        keys, factories = list(factory), list(factory.values())
        tables = [chosen_tables(model, key)[0] for key in keys]
    else:
        tables = chosen_tables(model, table)
        if isinstance(factory, nn.Module) and len(tables) > 1:
            raise ValueError(
                f"{name} has {len(tables)} tables ({'; '.join(map(str, tables))}): give a factory, "
                "or name one of them as table=..."
            )
        keys = [table if index == 0 else found.name for index, found in enumerate(tables)]
        factories = [factory] * len(tables)
    entries: dict[str | None, dict[str, Any]] = {}
    embeddings: dict[str | None, nn.Module] = {}
    order = [found.name for found in input_tables(model)]  # the decoder's last
    last = max(tables, key=lambda t: order.index(t.name) if t.name in order else -1)
    read = next((found for found in tables if found.heads), last)
    for key, found, made in zip(keys, tables, factories, strict=True):
        embeddings[key] = _fitting(found, made)
        wanted = bool(found.heads) if tie is None else tie
        if not found.heads and found is not read:
            wanted = False
        head = model.get_output_embeddings() if wanted and not found.heads else None
        if wanted and not found.heads and type(head) is not nn.Linear:
            what = "none" if head is None else type(head).__name__
            raise ValueError(f"{tie=} needs a linear output head; {name}: {what}.")
        entries[key] = {"embedding": describe(embeddings[key]), "tie": wanted}
    new = _with(model, entries, embeddings)
    if check:
        _check(model, new, tables, entries)
    return new


@torch.no_grad()
def _fitting(table: Table, embedding: _Factory | nn.Module) -> nn.Module:
    """An embedding for a table: built, of the right size, with the padding of the old table."""
    wanted = (table.weight.shape[0], table.weight.shape[1])
    module: Any = embedding if isinstance(embedding, nn.Module) else embedding(*wanted)
    if not isinstance(module, nn.Module):
        raise TypeError(f"The factory must return a module, not {type(module).__name__}.")
    if (size := table_size(module)) != wanted:
        raise ValueError(
            f"The embedding has (num_embeddings, embedding_dim) = {size}, the model needs {wanted}."
        )
    index, known = table.padding_idx, getattr(table.module, "padding_idx", None)
    if index is not None and module.padding_idx is None:
        part: Any
        for part in dict.fromkeys((module, tied_table(module))):
            if part.padding_idx is None:
                part.padding_idx = index
                if isinstance(part, nn.Embedding):
                    part.weight[index].zero_()
    if module.padding_idx not in (None, known):
        raise ValueError(
            f"padding_idx={module.padding_idx} of the embedding must be the model's, {known}."
        )
    return module.to(table.weight.device, table.weight.dtype)


def _with(
    model: PreTrainedModel,
    entries: Mapping[str | None, dict[str, Any]],
    embeddings: Mapping[str | None, nn.Module],
) -> PreTrainedModel:
    tables = {name: entry for name, entry in entries.items() if name is not None}
    define = {**entries.get(None, {}), **({"tables": tables} if tables else {})}
    config = define_config(model.config, define)
    return assemble(model_class(type(model)), config, model, embeddings=embeddings)


def _check(
    model: PreTrainedModel,
    new: PreTrainedModel,
    tables: list[Table],
    entries: Mapping[str | None, dict[str, Any]],
) -> None:
    """Another standard table must have the same effect in the old places and in the new ones."""
    if any(parameter.is_meta for parameter in model.parameters()):
        return
    what = f"replace_embedding of a {type(model).__name__}"
    standard, kept, weights = {}, {}, {}
    for key, table in zip(entries, tables, strict=True):
        other = table.weight.detach().roll(1, 0) * 1.25
        weights |= {f"{name}.weight": other for name in (*table.inputs, *table.heads)}
        standard[key] = nn.Embedding.from_pretrained(other, freeze=False)
        kept[key] = {"embedding": describe(standard[key]), "tie": bool(table.heads)}
    batch = tiny_batch(model)
    try:
        plain = assemble(type(model), copy.deepcopy(model.config), model, weights)
        expected = output(plain, batch)
    except Exception as error:  # noqa: BLE001  # whatever a model needs besides tokens
        return unchecked(what, error)
    compare(what, _output(what, _with(model, kept, standard), batch), expected)
    if expected.isfinite().all() and not _output(what, new, batch).isfinite().all():
        raise ValueError(f"{what} gives outputs that are not finite for a few tokens.")


def _output(what: str, model: PreTrainedModel, batch: dict[str, Any]) -> Tensor:
    try:
        return output(model, batch)
    except Exception as error:
        raise ValueError(
            f"{what} gives a model that does not run ({type(error).__name__}: {error}): it uses "
            "its table in a way that is not understood."
        ) from error


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
        # As a file of it will be read: some settings follow from others only there.
        read = type(config).from_dict(config.to_diff_dict())
        _take_implementations(read, config)
        config = read
    plain = assemble(cast(Any, type(model)).base_class, config, model, weights, share=False)
    what = f"The export of a {type(model).__name__}"
    if untied and config.tie_word_embeddings:
        warnings.warn(
            f"{what} has a head of its own, but a {type(config).__name__} says that it is tied, "
            "whatever it is told: transformers sees that tables differ in files, but its "
            "tie_weights() and resize_token_embeddings() tie them again, as other programs may.",
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
