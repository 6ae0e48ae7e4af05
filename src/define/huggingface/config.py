"""Configurations that also say how to rebuild the embedding."""

import copy
from functools import cache
from typing import Any, cast

from transformers import CONFIG_MAPPING, PreTrainedConfig

__all__ = ["config_class", "define_config", "plain_config"]


@cache
def config_class(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The configuration class of `base` with an embedding of this package."""
    if base.model_type not in CONFIG_MAPPING:
        raise TypeError(
            f"{base.__name__} has {base.model_type=}, which must be one that AutoConfig knows."
        )
    return type(
        f"Define{base.__name__}",
        (base,),
        {
            "__doc__": f"`{base.__name__}` with an embedding of this package.",
            "__module__": "define.huggingface",
            "model_type": "define",
            "base_class": base,
        },
    )


def define_config(config: PreTrainedConfig, define: dict[str, Any]) -> PreTrainedConfig:
    """A copy of a plain configuration, with what rebuilds the embedding."""
    derived = copy.deepcopy(config)
    derived.__class__ = config_class(type(config))
    derived.define = {"base": type(config).model_type, **define}
    return derived


def plain_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """A copy without the embedding of this package."""
    plain = copy.deepcopy(config)
    plain.__class__ = cast(Any, type(config)).base_class
    vars(plain).pop("define")
    return plain
