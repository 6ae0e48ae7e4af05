"""An embedding as JSON, and back: what `config.json` needs to rebuild it."""

import inspect
from functools import partial, singledispatch
from typing import Any, cast

import torch
from torch import nn

from define.embedding import AdaptiveEmbedding, DeFINE, Embedding, ProjectedEmbedding

__all__ = ["build", "describe"]

Description = dict[str, Any]

# Names are looked up here and in torch.nn alone: a configuration file must not import at will.
_CLASSES: dict[str, type[nn.Module]] = {
    cls.__name__: cls for cls in (AdaptiveEmbedding, DeFINE, ProjectedEmbedding)
}


def describe(embedding: nn.Module) -> Description:
    """The class and the arguments of an embedding, as JSON knows them.

    Args:
        embedding: An embedding of this package, or `torch.nn.Embedding`.

    Raises:
        TypeError: If the embedding is of another class, or was changed so that its arguments no
            longer rebuild it.

    Example:
        >>> description = describe(ProjectedEmbedding(100, 32, map=8))
        >>> description["class"], description["map"]
        ('ProjectedEmbedding', 8)
        >>> build(description)
        ProjectedEmbedding(
          100, 32
          (map): Embedding(100, 8)
          (projection): GroupLinear(in_features=8, out_features=32, groups=1, bias=False)
        )
    """
    description = _checked(embedding)
    with torch.device("meta"):
        rebuilt = build(description)
    if _outline(rebuilt) != _outline(embedding):
        raise TypeError(
            f"{type(embedding).__name__} cannot be rebuilt from {description}: got\n{rebuilt}\n"
            f"instead of\n{embedding}"
        )
    return description


def build(description: Description) -> nn.Module:
    """A new embedding from its description.

    Raises:
        ValueError: If the description names a class that is not known.
    """
    arguments = dict(description)
    name = arguments.pop("class")
    if name not in _CLASSES and name != "torch.nn.Embedding":
        known = sorted([*_CLASSES, "torch.nn.Embedding"])
        raise ValueError(f"The embedding class {name!r} must be one of {known}.")
    if isinstance(arguments.get("map"), dict):
        arguments["map"] = build(arguments["map"])
    for part in ("activation", "norm"):
        if isinstance(arguments.get(part), dict):
            arguments[part] = _maker(arguments[part])
    cls = nn.Embedding if name == "torch.nn.Embedding" else _CLASSES[name]
    return cls(**arguments)


def _outline(module: nn.Module) -> list[Any]:
    """All that tells two embeddings apart but their values."""
    parts: list[Any] = [
        (name, type(part), part.extra_repr())
        for name, part in module.named_modules()
        # These tell the device of what they hold.
        if not isinstance(part, nn.ParameterList | nn.ParameterDict)
    ]
    parts += [(name, tensor.shape) for name, tensor in module.state_dict().items()]
    return [*parts, getattr(module, "std", None)]


def _checked(embedding: nn.Module) -> Description:
    cls = type(embedding)
    if cls is not nn.Embedding and _CLASSES.get(cls.__name__) is not cls:
        raise TypeError(
            f"{cls.__name__} must be one of {sorted(_CLASSES)} or torch.nn.Embedding: others "
            "cannot be rebuilt from a configuration."
        )
    return _describe(embedding)


@singledispatch
def _describe(embedding: nn.Module) -> Description:
    raise NotImplementedError(type(embedding).__name__)


@_describe.register
def _(embedding: nn.Embedding) -> Description:
    options = ("max_norm", "norm_type", "scale_grad_by_freq", "sparse")
    return {
        "class": "torch.nn.Embedding",
        "num_embeddings": embedding.num_embeddings,
        "embedding_dim": embedding.embedding_dim,
        "padding_idx": embedding.padding_idx,
        **{name: getattr(embedding, name) for name in options},
    }


@_describe.register
def _(embedding: AdaptiveEmbedding) -> Description:
    # Any division that leads to the same integer widths rebuilds the tables.
    widths = embedding.widths
    divisions = [(widths[0] / width) ** (1 / band) for band, width in enumerate(widths) if band]
    div_value = next(
        (
            d
            for d in (*map(round, divisions), *divisions)
            if d >= 1 and all(int(widths[0] / d**b) == w for b, w in enumerate(widths))
        ),
        divisions[0],
    )
    return {
        **_base(embedding),
        "cutoffs": list(embedding.cutoffs),
        "map_dim": widths[0],
        "div_value": float(div_value),
        "project_first": embedding.projection(0) is not None,
        "sparse": embedding.sparse,
    }


@_describe.register
def _(embedding: ProjectedEmbedding) -> Description:
    return {
        **_base(embedding),
        **_map(embedding, embedding.map),
        "bias": embedding.projection.bias is not None,
    }


@_describe.register
def _(embedding: DeFINE) -> Description:
    expand, reduce = embedding.expand, embedding.reduce is not None
    expand_dim = expand.out_features
    if expand.skip == "residual" and reduce:
        expand_dim *= 2  # DeFINE halves it
    description = {
        **_base(embedding),
        **_map(embedding, embedding.map),
        "expand_dim": expand_dim,
        "groups": list(expand.groups),
        "skip": expand.skip,
        "shuffle": expand.shuffle,
        "shared": cast(bool, expand.linears[0].shared),
        "reduce": reduce,
        "reduce_map": embedding.reduce_map,
    }
    ending = expand.endings[0]
    if isinstance(ending, nn.Sequential):  # the last layer may end in a linear map
        *norm, activation, dropout = ending
        description["activation"] = _arguments(activation)
        description["dropout"] = cast(nn.Dropout, dropout).p
        if norm:
            description["norm"] = _arguments(norm[0])
            del description["norm"]["normalized_shape"]
    return description


def _base(embedding: Embedding) -> Description:
    return {
        "class": type(embedding).__name__,
        "num_embeddings": embedding.num_embeddings,
        "embedding_dim": embedding.embedding_dim,
        "padding_idx": embedding.padding_idx,
        "std": embedding.std,
    }


def _map(embedding: Embedding, map: nn.Module) -> Description:
    """A Map made by the embedding itself is its width; a given one is described in turn."""
    if type(map) is nn.Embedding and map.padding_idx == embedding.padding_idx:
        return {"map": map.embedding_dim, "sparse": map.sparse}
    return {"map": _checked(map)}


def _arguments(module: nn.Module) -> Description:
    """Class and arguments of a module of torch.nn without children, such as an activation."""
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls:
        raise TypeError(f"{cls.__name__} must be a module of torch.nn to be kept in a checkpoint.")
    arguments: Description = {"class": cls.__name__}
    for name in inspect.signature(cls).parameters:
        value = getattr(module, name, None)
        if name == "bias":
            arguments[name] = value is not None
        elif isinstance(value, bool | int | float | str | tuple):
            arguments[name] = list(value) if isinstance(value, tuple) else value
    return arguments


def _maker(description: Description) -> partial[nn.Module]:
    arguments = dict(description)
    name = arguments.pop("class")
    cls = getattr(nn, name, None)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"{name!r} must be a module of torch.nn.")
    return partial(cls, **arguments)
