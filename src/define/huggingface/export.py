"""Folds the embedding back: a plain model of transformers that needs nothing of this package."""

import copy
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from define.huggingface.borrowed import BorrowedEmbedding
from define.huggingface.config import plain_config
from define.huggingface.head import TiedHead
from define.huggingface.model import DefineModel, embedding_of, input_entry

__all__ = ["export"]


@torch.no_grad()
def export(model: PreTrainedModel) -> PreTrainedModel:
    """The same model with its embedding, and a tied head, as plain tables.

    The result is of the class that `replace_embedding` was given. Its `save_pretrained` writes a
    checkpoint that any program reads without this package. The head ``E P`` has a table of its
    own then, V × m, unless it equals the input's; models with several names for one input table
    (Marian) store it under each of them as soon as their head is no longer tied.

    Args:
        model: A model with an embedding of this package; it stays as it is.

    Returns:
        A plain model on the same device and of the same type.

    Raises:
        TypeError: If the model has no embedding of this package.
    """
    if not isinstance(model, DefineModel):
        raise TypeError(f"{type(model).__name__} has no embedding of this package to fold back.")
    entry = input_entry(model)
    table = cast(Tensor, embedding_of(model).weight)
    folded = {
        f"{name}.weight": table
        for name, module in model.named_modules(remove_duplicate=False)
        if module is entry
        or (isinstance(module, BorrowedEmbedding) and module.tied.module is entry)
    }
    tied = False
    head = model.get_output_embeddings()
    if isinstance(head, TiedHead):
        name = next(name for name, module in model.named_modules() if module is head)
        linear = head.to_linear()
        folded |= {f"{name}.{key}": tensor for key, tensor in linear.state_dict().items()}
        tied = linear.weight.shape == table.shape and torch.equal(linear.weight, table)

    config = plain_config(model.config)
    if head is not None:
        config.tie_word_embeddings = tied
    base = cast(Any, type(model)).base_class
    plain = cast(PreTrainedModel, base._from_config(config, dtype=model.dtype))
    keys = set(plain.state_dict())
    state = {key: tensor for key, tensor in model.state_dict().items() if key in keys}
    plain.load_state_dict({**state, **folded}, strict=True)
    nn.Module.to(plain, model.device).train(model.training)
    if model.can_generate():
        plain.generation_config = copy.deepcopy(model.generation_config)
    return plain
