"""Puts an embedding of this package in a model of transformers."""

from typing import Any, cast

from torch import nn
from transformers import PreTrainedModel

from define.embedding.description import describe
from define.huggingface.config import define_config
from define.huggingface.install import Factory, install, make_embedding
from define.huggingface.model import DefineModel, embedding_of, model_class
from define.huggingface.places import find_places
from define.huggingface.registration import register

__all__ = ["replace_embedding"]


def replace_embedding(
    model: PreTrainedModel, factory: Factory | nn.Module, *, tie: bool | None = None
) -> PreTrainedModel:
    r"""Replaces the token table of a model, in place, and where wanted its output head.

    The model becomes a :class:`DefineModel` of the same architecture: `GPT2LMHeadModel` becomes
    `DefineGPT2LMHeadModel`. It saves, loads, generates and trains as before. The new embedding is
    as its factory drew it: choose its `std` for training from scratch (GPT-2 draws its table with
    0.02), or give a module that approximates the old table.

    The tied head ``logits = E P h`` has the Map E of the embedding (the whole table where there
    is no Map) and a projection P of its own.

    Reference:
        | DeFINE, Sec. 3.4 (output tied to the Map table)

    Args:
        model: A causal model, an encoder, or an encoder and decoder with one shared table. What
            it adds to its table (scales, padding, output biases) stays.
        factory: Makes the embedding from ``(num_embeddings, embedding_dim)``, such as
            ``partial(DeFINE, map=64)``; or the embedding itself. One of `define.embedding` or
            `torch.nn.Embedding`: others cannot be rebuilt when a checkpoint is loaded. Without a
            padding id it is given the model's.
        tie: Whether the output head is tied to the embedding; if omitted, where it was tied to
            the old table. With False, a head that was tied keeps that table for itself.

    Returns:
        The same object.

    Raises:
        TypeError: If `model` is no model of transformers, or the embedding of another class.
        ValueError: If the model has no input embedding, two of them, or one of this package
            already; if the embedding has another size or padding; if there is no head to tie.

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
        >>> model.get_output_embeddings()
        TiedHead(
          in_features=32, out_features=100
          (projection): Linear(in_features=32, out_features=8, bias=False)
        )
    """
    if not isinstance(model, PreTrainedModel):
        raise TypeError(f"model must be a PreTrainedModel, not {type(model).__name__}.")
    if isinstance(model, DefineModel):
        raise ValueError(
            f"{type(model).__name__} already has an embedding of this package, "
            f"{type(embedding_of(model)).__name__}."
        )
    places = find_places(model)
    if tie is None:
        tie = places.tied
    if tie:
        head = None if places.head is None else model.get_submodule(places.head)
        if not isinstance(head, nn.Linear):
            found = "none" if head is None else type(head).__name__
            raise ValueError(f"{tie=} needs a linear output head; {type(model).__name__}: {found}.")
    embedding = make_embedding(places, factory)
    define = {"embedding": describe(embedding), "tie": tie}
    register(type(model.config))
    derived = model_class(type(model))
    old, config = model.config, define_config(model.config, define)
    # Nothing can fail from here on.
    install(model, places, embedding, tie)
    for module in model.modules():
        if getattr(module, "config", None) is old:
            cast(Any, module).config = config
    model.__class__ = cast(type[PreTrainedModel], derived)
    return model
