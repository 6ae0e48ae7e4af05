"""Makes the auto classes of transformers know models with an embedding of this package."""

from functools import cache
from typing import Any, ClassVar, Self, cast

from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto import modeling_auto

from define.huggingface.config import config_class
from define.huggingface.model import model_class

__all__ = ["DefineConfig", "register"]


class DefineConfig(PreTrainedConfig):
    """Entry of the auto classes for all checkpoints with an embedding of this package.

    All have the model type ``"define"``, so that a program without this package says that it does
    not know the model, instead of loading it with a table drawn at random. ``define["base"]`` in
    the file names the type of the model around the embedding; from it :meth:`from_dict` makes the
    configuration class and registers it, with its models, with the auto classes.
    """

    model_type: ClassVar[str] = "define"

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Self:  # noqa: ANN401
        define = config_dict.get("define")
        if not isinstance(define, dict) or define.get("base") not in CONFIG_MAPPING:
            raise ValueError(
                f"config.json has define={define!r}: its 'base' must name a type of model that "
                "transformers knows."
            )
        base = CONFIG_MAPPING[define["base"]]
        register(base)
        return cast(Self, config_class(base).from_dict(config_dict, **kwargs))


@cache
def register(base: type[PreTrainedConfig]) -> None:
    """Makes each auto class that knows `base` know the models with an embedding of this package."""
    derived = config_class(base)
    for auto in vars(modeling_auto).values():
        mapping = getattr(auto, "_model_mapping", None)
        if not isinstance(auto, type) or mapping is None or base not in mapping:
            continue
        models = mapping[base]
        if isinstance(models, list | tuple):  # then config.architectures chooses
            auto.register(derived, tuple(model_class(model) for model in models), exist_ok=True)
        else:
            auto.register(derived, model_class(models), exist_ok=True)


AutoConfig.register("define", DefineConfig)
