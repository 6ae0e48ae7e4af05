"""An embedding as JSON, and back: what a configuration file needs to rebuild it."""

import inspect
import pickle
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from define.embedding.base import Embedding
from define.embedding.family import arguments

__all__ = ["build", "describe", "picklable"]

Description = dict[str, Any]

_PLAIN = "torch.nn.Embedding"
_WIDTH = 1024  # of the normalization that is made to read its arguments


def describe(embedding: nn.Module) -> Description:
    """The class and the arguments of an embedding, as JSON knows them.

    Args:
        embedding: `torch.nn.Embedding` or any embedding of this package: a subclass of
            :class:`Embedding` that keeps its arguments as attributes.

    Raises:
        TypeError: If the embedding is of another class, or was changed so that its arguments no
            longer rebuild it.

    Example:
        >>> from define import ProjectedEmbedding
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
    description = _describe(embedding)
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
        ValueError: If the description names a class that is not known. A class of another module
            is known once that is imported.
    """
    options = {name: _built(value) for name, value in description.items()}
    return _known(str(options.pop("class")))(**options)


def _known(name: str) -> type[nn.Module]:
    # Among embeddings and in torch.nn alone: a configuration file must not import at will.
    # Of one name the general class counts: torch.export makes subclasses that live for a while.
    classes: dict[str, type[nn.Module]] = {_PLAIN: nn.Embedding}
    classes.update({cls.__name__: cls for cls in reversed(_subclasses(Embedding))})
    if name not in classes:
        raise ValueError(f"The embedding class {name!r} must be one of {sorted(classes)}.")
    return classes[name]


def _subclasses(cls: type[Embedding]) -> list[type[Embedding]]:
    """All classes under one that can be made, from general to special."""
    below = cls.__subclasses__()
    made = [child for child in below if not inspect.isabstract(child)]
    return made + [grandchild for child in below for grandchild in _subclasses(child)]


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


def _describe(embedding: nn.Module) -> Description:
    options = {name: _described(name, value) for name, value in arguments(embedding).items()}
    name = type(embedding).__name__ if isinstance(embedding, Embedding) else _PLAIN
    if _known(name) is not type(embedding):
        raise TypeError(f"{type(embedding)} must be {_known(name)}, which is what {name!r} names.")
    return {"class": name, **options}


def _described(name: str, value: object) -> object:
    if isinstance(value, nn.Module):
        return _describe(value)
    if isinstance(value, list | tuple):
        return [_described(name, part) for part in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value):
        return _described_maker(value)
    raise TypeError(f"{name}={value!r} cannot be kept as JSON.")


def _described_maker(make: Any) -> Description:  # noqa: ANN401
    """Class and arguments of what makes a module of torch.nn, such as an activation.

    They are read off a module that it makes: from nothing, or from a width.
    """
    required = [
        p
        for p in inspect.signature(make).parameters.values()
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    module = make(*[_WIDTH] * len(required))
    cls = type(module)
    if getattr(nn, cls.__name__, None) is not cls:
        raise TypeError(f"{cls.__name__} must be a module of torch.nn to be kept as JSON.")
    description: Description = {"class": cls.__name__}
    for name in list(inspect.signature(cls).parameters)[len(required) :]:
        value = getattr(module, name, None)
        if name == "bias":
            description[name] = value is not None
        elif isinstance(value, bool | int | float | str | tuple):
            description[name] = list(value) if isinstance(value, tuple) else value
    return description


def picklable(make: Any) -> Any:  # noqa: ANN401
    """What makes a module, so that it can be pickled although it is a lambda.

    It comes back as the class and the arguments of what it makes, if that is of `torch.nn`.
    """
    try:
        pickle.dumps(make)
    except (pickle.PicklingError, AttributeError, TypeError):
        return _Maker(make)
    return make


class _Maker:
    def __init__(self, make: Callable[..., nn.Module]) -> None:
        self.__wrapped__ = make  # whose signature is this one's too

    def __call__(self, *widths: int) -> nn.Module:
        return self.__wrapped__(*widths)

    def __deepcopy__(self, memo: dict[int, object]) -> "_Maker":
        return self

    def __reduce__(self) -> tuple[Callable[..., object], tuple[Description]]:
        try:
            return _built, (_described_maker(self.__wrapped__),)
        except TypeError as error:
            raise TypeError(
                f"{self.__wrapped__} cannot be pickled ({error}): give a class, or a function that "
                "can be imported by its name, instead of a lambda or a local function."
            ) from error


def _built(value: object) -> object:
    """An argument: an embedding, or what makes a module, is described by its class."""
    if isinstance(value, list):
        return [_built(part) for part in value]
    if not isinstance(value, dict):
        return value
    options = dict(value)
    name = options.pop("class")
    cls = getattr(nn, name, None)
    if name == _PLAIN or any(name == known.__name__ for known in _subclasses(Embedding)):
        return build(value)
    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        raise ValueError(f"{name!r} must be an embedding or a module of torch.nn.")
    return partial(cls, **options)
