"""Puts embeddings in all places of a model's tables, ties heads to them, says what is where."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from torch import nn
from transformers import PreTrainedModel

from define.embedding.base import table_size
from define.embedding.description import build, describe
from define.embedding.readonly import ReadOnly
from define.huggingface.head import TiedHead
from define.huggingface.scaled import ScaledEmbedding, unscaled
from define.huggingface.tables import Table, chosen_tables, put

__all__ = ["Place", "Tie", "described", "install", "installed", "places_of", "shared_names"]

# transformers draws some tables through the module that holds them; it leaves what says this.
cast(Any, ReadOnly)._is_hf_initialized = True

Tie = Literal["embedding"] | bool  # False: untied; True: to the Map; or to the computed rows


@dataclass(frozen=True)
class Place:
    """Where an embedding of this package is in a model.

    Args:
        table: Name of the table that it replaced; None for the model's own input embedding.
        inputs: Names of all modules that look tokens up in it: one object.
        heads: Names of the heads that are tied to it, or of the one that it is the table of.
        tie: How these are tied.
        num_embeddings: Its rows.
    """

    table: str | None
    inputs: tuple[str, ...]
    heads: tuple[str, ...]
    tie: Tie
    num_embeddings: int

    def embedding(self, model: nn.Module) -> nn.Module:
        """The embedding, without the scale that the model puts around it."""
        return unscaled(self.owner(model))

    def owner(self, model: nn.Module) -> nn.Module:
        """The module that looks tokens up, or what the head's table is computed from."""
        if self.inputs:
            return model.get_submodule(self.inputs[0])
        return cast(TiedHead, model.get_submodule(self.heads[0])).embedding

    @property
    def name(self) -> str:
        """Name of :meth:`owner`."""
        return self.inputs[0] if self.inputs else f"{self.heads[0]}.embedding"


def places_of(model: nn.Module) -> tuple[Place, ...]:
    """The embeddings of this package in a model; none in a plain one."""
    return model.__dict__.get("_define_places", ())


def described(model: PreTrainedModel) -> dict[str, Any]:
    """What `config.define` must say so that the model is rebuilt as it is now.

    Raises:
        ValueError: If an embedding was put in some of its places only, or has another size.
        TypeError: If it cannot be described.
    """
    define: dict[str, Any] = {}
    for place in places_of(model):
        owner, embedding = place.owner(model), place.embedding(model)
        heads = {name: model.get_submodule(name) for name in place.heads}
        heads = {name: head for name, head in heads.items() if isinstance(head, TiedHead)}
        others = [name for name in place.inputs if model.get_submodule(name) is not owner]
        others += [name for name, head in heads.items() if head.embedding is not owner]
        rows = table_size(embedding)[0]
        if others or rows != place.num_embeddings:
            raise ValueError(
                f"{place.name} of {type(model).__name__} is now a {type(embedding).__name__} of "
                f"{rows} rows, {others or 'the model'} of {place.num_embeddings} as before: this "
                "checkpoint would not load. Set rows with set_rows, sizes with "
                "resize_token_embeddings, and another embedding with "
                "replace_embedding(export(model), ...)."
            )
        entry = {"embedding": describe(embedding), "tie": bool(heads) and place.tie}
        if place.table is None:
            define |= entry
        else:
            define.setdefault("tables", {})[place.table] = entry
    return define


def installed(
    model: PreTrainedModel, define: Mapping[str, Any], embeddings: Mapping[str | None, nn.Module]
) -> None:
    """Puts embeddings where `config.define` says; those that are not given are built."""
    entries: dict[str | None, Mapping[str, Any]] = dict(define.get("tables", {}))
    if "embedding" in define:
        entries = {None: define, **entries}
    found = {name: _find(model, name) for name in entries}  # before any is put in place
    for name, table in found.items():
        entry = entries[name]
        if table is None:
            continue  # a head that this architecture has not
        embedding = embeddings.get(name)
        if embedding is None:
            embedding = build(entry["embedding"])
        install(model, name, table, embedding, entry["tie"])


def _find(model: PreTrainedModel, name: str | None) -> Table | None:
    """A table by its name, which another architecture over the same base says differently."""
    if name is None:
        return chosen_tables(model, None)[0]
    prefix = f"{model.base_model_prefix}."
    names = {key for key, _ in model.named_modules(remove_duplicate=False)}
    spelled = (name, name.removeprefix(prefix), prefix + name)
    known = next((key for key in spelled if key in names), None)
    return None if known is None else chosen_tables(model, known)[0]


def install(
    model: PreTrainedModel, name: str | None, table: Table, embedding: nn.Module, tie: Tie
) -> None:
    """Puts one embedding in all places of a table, and ties the table's heads to it if wanted."""
    size, wanted = table_size(embedding), tuple(table.weight.shape)
    if size != wanted:
        raise ValueError(
            f"The embedding has (num_embeddings, embedding_dim) = {size}, the model needs {wanted}."
        )
    entry = embedding if table.scale == 1.0 else ScaledEmbedding(embedding, table.scale)
    ties = dict(model.all_tied_weights_keys)
    head = model.get_output_embeddings() if tie and table.inputs and not table.heads else None
    heads = table.heads or tuple(key for key, part in model.named_modules() if part is head)[:1]
    changed = {f"{key}.weight" for key in (*table.inputs, *table.heads, *heads)}
    first = next(embedding.parameters())
    for key in table.inputs:
        put(model, key, entry)
    tied = heads if tie or not table.inputs else ()
    for key in tied:
        old = cast(nn.Linear, model.get_submodule(key))
        new = TiedHead(
            entry,
            table.weight.shape[1],
            computed=not table.inputs or tie == "embedding",
            device=first.device,
            dtype=first.dtype,
        )
        new.bias = old.bias
        put(model, key, new)
    # transformers draws what looks like a linear layer or an embedding anew unless it says that it
    # is drawn. On the meta device, a head that a checkpoint has not is to be drawn.
    drawn = tied if first.device.type != "meta" else ()
    for part in (entry, *(model.get_submodule(key) for key in drawn)):
        for module in part.modules():
            cast(Any, module)._is_hf_initialized = True
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and module is not model:
            # Inner models would tie what is no longer there.
            inner = cast(Any, module)
            inner._tied_weights_keys, inner.all_tied_weights_keys = None, {}
    cast(Any, model)._define_ties = {
        t: s for t, s in ties.items() if t not in changed and s not in changed
    }
    place = Place(name, table.inputs, tied, tie if tied else False, size[0])
    cast(Any, model)._define_places = (*places_of(model), place)


def shared_names(model: PreTrainedModel) -> dict[str, str]:
    """Second names of tensors: {name: the name that they are saved by}."""
    names: dict[str, str] = {}
    for place in places_of(model):
        owner = place.owner(model)
        others = [*place.inputs[1:], *(f"{key}.embedding" for key in place.heads)]
        for key in owner.state_dict():  # also codes, which are no parameters
            names |= {f"{n}.{key}": f"{place.name}.{key}" for n in others if n != place.name}
    return names
