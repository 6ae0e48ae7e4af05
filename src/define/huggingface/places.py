"""Where a model of transformers keeps its table of tokens, and what is tied to it."""

from dataclasses import dataclass
from typing import cast

from torch import nn
from transformers import PreTrainedModel

__all__ = ["Places", "find_places", "put"]


@dataclass(frozen=True)
class Places:
    """The token table of a model.

    Args:
        table: The table of the encoder, or of the whole model.
        inputs: Names of all modules that look tokens up in it; the first is its owner.
        head: Name of the output head, if the model has one.
        tied: Whether the head's weight is the table's.
    """

    table: nn.Module
    inputs: list[str]
    head: str | None
    tied: bool


def find_places(model: PreTrainedModel) -> Places:
    """Finds the token table of a model.

    Raises:
        ValueError: If the model has no table of tokens, or a second one for its decoder.
    """
    name = type(model).__name__
    try:
        table = model.get_input_embeddings()
    except (NotImplementedError, AttributeError):
        table = None
    if not isinstance(table, nn.Embedding):
        found = "none" if table is None else type(table).__name__
        raise ValueError(f"{name} has no input embedding (a torch.nn.Embedding), found: {found}.")
    # While a checkpoint is loaded, ties are declared but not made yet.
    ties = model.all_tied_weights_keys
    sources = {_source(ties, key) for key in _names(model, table)}

    def shares(key: str, module: nn.Module) -> bool:
        return getattr(module, "weight", None) is table.weight or _source(ties, key) in sources

    inputs = {
        key: module
        for key, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, nn.Embedding) and shares(key, module)
    }
    if model.config.is_encoder_decoder:
        decoder = model.get_decoder().get_input_embeddings()
        if not any(module is decoder for module in inputs.values()):
            raise ValueError(
                f"{name} has two tables, {tuple(table.weight.shape)} for its encoder and "
                f"{tuple(cast(nn.Embedding, decoder).weight.shape)} for its decoder: "
                "only a shared one can be replaced."
            )
    head = model.get_output_embeddings()
    if head is None:
        return Places(table, list(inputs), None, False)
    key = _names(model, head)[0]
    return Places(table, list(inputs), key, shares(key, head))


def put(model: nn.Module, name: str, module: nn.Module) -> None:
    """Puts a module in the place of the given name."""
    parent, _, child = name.rpartition(".")
    setattr(model.get_submodule(parent), child, module)


def _names(model: nn.Module, wanted: nn.Module) -> list[str]:
    return [key for key, part in model.named_modules(remove_duplicate=False) if part is wanted]


def _source(ties: dict[str, str], key: str) -> str:
    """Name of the parameter that the weight of a module is tied to; its own if it is free."""
    weight = f"{key}.weight"
    return ties.get(weight, weight)
