"""Where a model of transformers keeps its tables of tokens, and what is tied to them."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

__all__ = [
    "Table",
    "chosen_tables",
    "find_tables",
    "input_tables",
    "put",
    "row_counts",
    "set_sizes",
    "vocabularies",
    "without_memory",
]

_Path = tuple[str, ...]  # to a setting of a configuration, through its parts


@dataclass(frozen=True)
class Table:
    """A table with one row a token, and all places of a model that read it.

    Args:
        name: Name of the module that owns it: the first of `inputs`, or an output head.
        module: That module.
        inputs: Names of all modules that look tokens up in it; none for an untied head.
        heads: Names of all linear heads whose weight it is.
        scale: Factor on the rows where they enter the model (Gemma's; 1 for most).
    """

    name: str
    module: nn.Embedding | nn.Linear
    inputs: tuple[str, ...]
    heads: tuple[str, ...]
    scale: float = 1.0

    @property
    def weight(self) -> Tensor:
        """The table (V, m), without the scale."""
        return self.module.weight

    @property
    def padding_idx(self) -> int | None:
        """Id whose row is zero; None if that of the model's padding is not, and so is a token."""
        index = getattr(self.module, "padding_idx", None)
        if index is None or self.weight.is_meta or self.weight[index].any():
            return None
        return index

    def __str__(self) -> str:
        places = ", ".join((*self.inputs, *self.heads))
        return f"{self.name}: {tuple(self.weight.shape)}, read by {places}"


def find_tables(model: PreTrainedModel) -> list[Table]:
    """All tables of tokens of a model: input tables, tables of its layers, heads of their own.

    The first ones are what :func:`~define.huggingface.replace_embedding` replaces if no other is
    named: those that the model, or its encoder and decoder, call their input embeddings.

    Example:
        >>> from transformers import GPT2Config, GPT2LMHeadModel
        >>> model = GPT2LMHeadModel(GPT2Config(vocab_size=100, n_embd=32, n_layer=1, n_head=2))
        >>> print(find_tables(model)[0])
        transformer.wte: (100, 32), read by transformer.wte, lm_head
    """
    tables = input_tables(model)
    seen = {name for table in tables for name in (*table.inputs, *table.heads)}
    further, head = _follow_vocabularies(model, seen), model.get_output_embeddings()
    for name, module in model.named_modules():
        if name not in seen and (name in further or module is head) and _is_table(module):
            tables.append(_table(model, name))
            seen.update((*tables[-1].inputs, *tables[-1].heads))
    return tables


def input_tables(model: PreTrainedModel) -> list[Table]:
    """The tables that a model, its encoder and its decoder call their input embeddings."""
    parts: list[nn.Module] = [model]
    if model.config.is_encoder_decoder:
        parts += [cast(Any, model).get_encoder(), model.get_decoder()]
    tables: list[Table] = []
    for part in parts:
        module = _input_embeddings(part)
        name = next((key for key, found in model.named_modules() if found is module), None)
        if isinstance(module, nn.Embedding) and name is not None:
            if not any(name in table.inputs for table in tables):
                tables.append(_table(model, name))
    return tables


def chosen_tables(model: PreTrainedModel, name: str | None) -> list[Table]:
    """The input tables of a model, or the one of the given name.

    Raises:
        ValueError: If there is none, or it is read in a way that is not understood.
    """
    if name is None:
        if tables := input_tables(model):
            return tables
        module = _input_embeddings(model)
        found = "none" if module is None else type(module).__name__
        raise ValueError(
            f"{type(model).__name__} has no input embedding (a torch.nn.Embedding), found: {found}."
        )
    module = dict(model.named_modules(remove_duplicate=False)).get(name)
    if module is None or not _is_table(module):
        known = [table.name for table in find_tables(model)]
        raise ValueError(f"table={name!r} must be one of {known} in {type(model).__name__}.")
    return [_table(model, name)]


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of the given name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _table(model: PreTrainedModel, name: str) -> Table:
    module = cast(nn.Embedding | nn.Linear, model.get_submodule(name))
    # While a checkpoint is loaded, ties are declared but not made yet.
    ties = getattr(model, "all_tied_weights_keys", None)
    if ties is None:
        raise ValueError(
            f"{type(model).__name__} does not say what is tied: its __init__ must end with "
            "self.post_init(), as those of transformers do."
        )
    names = {
        key
        for key, parameter in model.named_parameters(remove_duplicate=False)
        if parameter is module.weight
    }
    sources = {ties.get(key, key) for key in names}
    names |= {target for target, source in ties.items() if source in sources} | sources
    inputs, heads = [], []
    for key, part in model.named_modules(remove_duplicate=False):
        if f"{key}.weight" in names:
            names.remove(f"{key}.weight")
            if not _is_table(part):
                raise ValueError(
                    f"{key}, a {type(part).__name__}, shares its weight with {name}: it must be a "
                    "torch.nn.Embedding or torch.nn.Linear."
                )
            (inputs if isinstance(part, nn.Embedding) else heads).append(key)
    if names:
        raise ValueError(f"{sorted(names)} share the weight of {name}: no module reads them.")
    scales = {_scale(cast(nn.Embedding, model.get_submodule(key))) for key in inputs}
    if len(scales) > 1:
        raise ValueError(f"{inputs} share one table and scale it differently: {sorted(scales)}.")
    return Table((inputs or heads)[0], module, tuple(inputs), tuple(heads), *scales)


def _is_table(module: nn.Module) -> bool:
    return isinstance(module, nn.Embedding) or type(module) is nn.Linear


def _input_embeddings(part: nn.Module) -> nn.Module | None:
    try:
        return cast(PreTrainedModel, part).get_input_embeddings()
    except (NotImplementedError, AttributeError):
        return getattr(part, "embed_tokens", None)  # FSMT's decoder does not say


def vocabularies(config: PreTrainedConfig) -> dict[_Path, int]:
    """Sizes of all vocabularies of tokens that a configuration and its parts name."""
    sizes: dict[_Path, int] = {}
    for key, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            sizes |= {(key, *path): size for path, size in vocabularies(value).items()}
        elif "vocab_size" in key and "type_vocab" not in key and isinstance(value, int):
            sizes[(key,)] = value  # types of segments are no tokens
    return sizes


def set_sizes(config: PreTrainedConfig, sizes: Mapping[_Path, int]) -> None:
    """Gives vocabularies of a configuration other sizes."""
    for (*parts, key), size in sizes.items():
        setattr(reduce(getattr, parts, config), key, size)


def without_memory(
    cls: type[PreTrainedModel], config: PreTrainedConfig, sizes: Mapping[_Path, int] | None = None
) -> PreTrainedModel:
    """A model on the meta device, with vocabularies of other sizes."""
    set_sizes(config := copy.deepcopy(config), sizes or {})
    with torch.device("meta"):
        return cast(Any, cls)._from_config(config)


def row_counts(model: nn.Module) -> dict[str, int]:
    """Rows of all embeddings of a model, by name."""
    modules = model.named_modules(remove_duplicate=False)
    return {name: part.num_embeddings for name, part in modules if isinstance(part, nn.Embedding)}


def _follow_vocabularies(model: PreTrainedModel, seen: set[str]) -> set[str]:
    """Embeddings with as many rows as a vocabulary, and because of it: not tables of positions."""
    sizes = vocabularies(model.config)
    rows = row_counts(model)
    found = {name for name in rows.keys() - seen if rows[name] in sizes.values()}
    if not found:
        return found
    longer = {path: size + 1 for path, size in sizes.items()}
    try:
        grown = row_counts(without_memory(type(model), model.config, longer))
    except Exception:  # noqa: BLE001  # of any model's code: its sizes depend on each other
        return found
    return {name for name in found if grown.get(name) != rows[name]}


@torch.no_grad()
def _scale(table: nn.Embedding) -> float:
    """The factor that a table of transformers puts on its rows.

    Raises:
        ValueError: If its class does something else with them too: adds rows, normalizes, clamps.
    """
    if type(table).forward is nn.Embedding.forward:
        return 1.0
    scale = getattr(table, "scalar_embed_scale", None)
    scale = float(getattr(table, "embed_scale", 1.0) if scale is None else scale)
    plain = [name for name, _ in table.named_parameters()] == ["weight"]
    if plain and not table.weight.is_meta:
        # The same row for all ids needs no memory; at two sizes, so that limits show.
        ids = torch.arange(table.num_embeddings, device=table.weight.device)[-1000:]
        for size in (1e-3, 1e3):
            row = torch.linspace(-size, size, table.embedding_dim).to(table.weight)
            rows = {"weight": row.expand_as(table.weight)}
            found = torch.func.functional_call(table, rows, (ids[None],))
            plain &= torch.allclose(found, (row * row.new_full((), scale)).expand_as(found))
    if not plain:
        raise ValueError(
            f"{type(table).__name__} does more with its rows than to scale them: an embedding in "
            "its place would lose that."
        )
    return scale
