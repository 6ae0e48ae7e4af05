"""What is put in a model: embeddings, scales around them, heads tied to them; and what is where."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MethodType
from typing import Any, Literal, cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from define.embedding import bands, made_rows, share_rows, tied_table
from define.embedding.base import table_size
from define.embedding.description import build, describe
from define.embedding.readonly import ReadOnly
from define.embedding.shared import is_bare
from define.embedding.tracing import is_traced
from define.huggingface.tables import Table, chosen_tables, put
from define.softmax.base import own_projection

__all__ = [
    "Place",
    "TiedHead",
    "Tie",
    "described",
    "installed",
    "places_of",
    "shared_names",
]

# transformers draws some tables through the module that holds them; it leaves what says this.
cast(Any, ReadOnly)._is_hf_initialized = True

Tie = Literal["embedding"] | bool  # False: untied; True: to the Map; or to the computed rows
_CHUNK = 8192  # rows computed at a time, and computed again for the gradient


class ScaledEmbedding(nn.Module):
    """Scales rows where they enter the model, as Gemma does; heads read them without the scale.

    The scale is a number, not a buffer: `from_pretrained` gives non-persistent buffers back with
    whatever the memory holds.
    """

    def __init__(self, embedding: nn.Module, scale: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.scale = scale

    # What an `nn.Embedding` says of itself; the table is as it is stored, as in Gemma.
    num_embeddings = property(lambda self: table_size(self.embedding)[0])
    embedding_dim = property(lambda self: table_size(self.embedding)[1])
    padding_idx = property(lambda self: self.embedding.padding_idx)
    weight = property(lambda self: self.embedding.weight)

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch features"]:
        rows = self.embedding(ids)
        # In the type of the rows: a factor rounded differently would not be the original's.
        return rows * rows.new_full((), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


def _unscaled(embedding: nn.Module) -> nn.Module:
    return embedding.embedding if isinstance(embedding, ScaledEmbedding) else embedding


class TiedHead(nn.Module):
    r"""Logits of all words: the products of projected hidden states with the rows of a table.

    .. math:: \mathrm{logits}(h) = E P h + b

    What :class:`~define.softmax.TiedSoftmax` is to a loss, as the head that models of
    transformers expect. E is the Map of the embedding, or with `computed` the rows that the whole
    embedding gives; they are made once a step, for look-ups and logits together. P is owned here;
    so is b, None until a model's is put here. The embedding is registered here too, so that
    replicas, hooks and adapters reach it; once one of these is in between, it is called as a
    module instead of its table being read.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)

    Args:
        embedding: Embedding to tie to.
        in_features: Width of the hidden states.
        computed: Whether E is the table that the embedding stands for, instead of its Map.
        device: Device of the parameters owned here.
        dtype: Type of the parameters owned here.

    Shape:
        (\*batch, in_features) → (\*batch, V).

    Example:
        >>> TiedHead(nn.Embedding(100, 8), in_features=32)
        TiedHead(
          in_features=32, out_features=100
          (embedding): Embedding(100, 8)
          (projection): Linear(in_features=32, out_features=8, bias=False)
        )
    """

    def __init__(
        self,
        embedding: nn.Module,
        in_features: int,
        *,
        computed: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.embedding = embedding
        self.in_features = in_features
        self.computed = computed
        self.projection = own_projection(in_features, table_size(self.tied)[1], device, dtype)
        self.bias: nn.Parameter | None = None
        if self.is_computed:
            share_rows(self.tied, self.out_features)

    @property
    def tied(self) -> nn.Module:
        """The module whose rows E is made of."""
        embedding = _unscaled(self.embedding)
        return embedding if self.computed else tied_table(embedding)

    @property
    def is_computed(self) -> bool:
        """Whether E is computed, instead of stored as a table or bands of one."""
        return not isinstance(self.tied, nn.Embedding) and bands(self.tied) is None

    @property
    def out_features(self) -> int:
        """Size V of the vocabulary."""
        return table_size(self.embedding)[0]  # an adapter around the Map does not say

    @property
    def weight(self) -> Float[Tensor, "classes in"]:
        """The table E P of one linear layer with the same logits, for models that read it.

        Where accelerate has put the parameters elsewhere until they are needed, it has a shape and
        a type alone, as those of plain layers have.
        """
        first = next(self.embedding.parameters(), None)
        if first is not None and first.is_meta:
            shape = (self.out_features, self.in_features)
            return torch.empty(shape, dtype=first.dtype, device="meta")
        rows = self._rows(None)
        if isinstance(self.projection, nn.Linear):
            rows = rows @ self.projection.weight
        computed = not isinstance(rows, nn.Parameter) and not is_traced(rows)
        return rows.as_subclass(ReadOnly) if computed else rows

    def forward(self, hidden: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch classes"]:
        hidden = self.projection(hidden)
        tables = bands(self.tied) if is_bare(self.embedding) else None
        if tables is None:
            return F.linear(hidden, self._rows(hidden.device), self.bias)
        # Band by band at its own width, instead of building the table that they stand for.
        parts = []
        for band in tables:
            rows = hidden if band.projection is None else hidden @ band.projection
            parts.append(F.linear(rows, band.table))
        logits = torch.cat(parts, -1)
        return logits if self.bias is None else logits + self.bias.to(logits.dtype)

    def _rows(self, device: torch.device | None) -> Tensor:
        return made_rows(self.tied) if is_bare(self.embedding) else self._called_rows(device)

    def _called_rows(self, device: torch.device | None) -> Tensor:
        unit = self.embedding
        if not hasattr(unit, "unshard"):
            return _table_rows(unit, self.computed, device)
        # FSDP2 gathers parameters around the methods of a unit that it is told of.
        if not hasattr(unit, "table_rows"):
            from torch.distributed.fsdp import register_fsdp_forward_method

            cast(Any, unit).table_rows = MethodType(_table_rows, unit)
            register_fsdp_forward_method(unit, "table_rows")
        return cast(Any, unit).table_rows(self.computed, device)

    @torch.no_grad()
    def to_linear(self) -> nn.Linear:
        """The head as one plain layer in_features → V, with a table of its own."""
        weight = self.weight.clone()
        linear = nn.Linear(self.in_features, len(weight), bias=self.bias is not None, device="meta")
        linear.weight = nn.Parameter(weight)
        if self.bias is not None:
            linear.bias = nn.Parameter(self.bias.clone())
        return linear

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, out_features={self.out_features}"


def _table_rows(unit: nn.Module, computed: bool, device: torch.device | None) -> Tensor:
    """All rows of the table that a head reads, by calling the modules that give them."""
    embedding = _unscaled(unit)
    table = embedding if computed else tied_table(embedding)
    if device is None:
        device = next(table.parameters()).device
    chunks = torch.arange(table_size(unit)[0], device=device).split(_CHUNK)
    if len(chunks) == 1 or not torch.is_grad_enabled():
        return torch.cat([table(chunk) for chunk in chunks])
    return torch.cat(
        [cast(Tensor, checkpoint(table, chunk, use_reentrant=False)) for chunk in chunks]
    )


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
        return _unscaled(self.owner(model))

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
        heads = {n: h for n in place.heads if isinstance(h := model.get_submodule(n), TiedHead)}
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
        if table is not None:  # a head that this architecture has not
            embedding = embeddings.get(name)
            if embedding is None:
                embedding = build(entries[name]["embedding"])
            _install(model, name, table, embedding, entries[name]["tie"])


def _find(model: PreTrainedModel, name: str | None) -> Table | None:
    """A table by its name, which another architecture over the same base says differently."""
    if name is None:
        return chosen_tables(model, None)[0]
    prefix = f"{model.base_model_prefix}."
    names = {key for key, _ in model.named_modules(remove_duplicate=False)}
    spelled = (name, name.removeprefix(prefix), prefix + name)
    known = next((key for key in spelled if key in names), None)
    return None if known is None else chosen_tables(model, known)[0]


def _install(
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
