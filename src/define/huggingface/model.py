"""Models of transformers with embeddings of this package: one class for each of theirs."""

import os
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, cast

from torch import nn
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

from define.huggingface.files import LOADER, LOADER_TEXT, write_readme
from define.huggingface.install import described, installed, places_of, shared_names
from define.huggingface.resize import resize_model
from define.huggingface.twins import config_as

__all__ = [
    "DefineConfig",
    "DefineModel",
    "config_class",
    "define_config",
    "embedding_of",
    "model_class",
    "register",
]

_Base = PreTrainedModel if TYPE_CHECKING else object


class DefineModel(_Base):
    """What a model gains with an embedding of this package; mixed in before its own class.

    Configurations carry in ``config.define`` how embeddings are rebuilt and how heads are tied to
    them.
    """

    def __init__(
        self,
        config: PreTrainedConfig,
        *args: Any,  # noqa: ANN401
        embeddings: Mapping[str | None, nn.Module] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(config, *args, **kwargs)
        define = getattr(config, "define", None)
        if define is None:
            raise ValueError(
                f"{type(config).__name__} has no 'define': configure the plain model and call "
                "replace_embedding on it."
            )
        for name in define.get("without", ()):  # what the plain model was made without
            parent, _, child = name.rpartition(".")
            if hasattr(self, parent) or not parent:
                setattr(self.get_submodule(parent), child, None)
        installed(self, define, embeddings or {})
        # The second names of a head's table: declared as tied, and written once.
        self._keys_to_ignore_on_save = {*(self._keys_to_ignore_on_save or ()), *shared_names(self)}

    @property
    def all_tied_weights_keys(self) -> dict[str, str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Ties that hold now, {second name: first name}; also of what a tool put in between."""
        ties = self.__dict__.setdefault("_define_ties", {})
        return {**ties, **shared_names(self)} if places_of(self) else ties

    @all_tied_weights_keys.setter
    def all_tied_weights_keys(self, ties: dict[str, str]) -> None:
        if not places_of(self):  # later ones are those of the plain class
            self.__dict__["_define_ties"] = ties

    @property
    def _tied_weights_keys(self) -> Any:  # noqa: ANN401
        if places_of(self):
            return self.all_tied_weights_keys
        return self.__dict__.get("_plain_ties", cast(Any, super())._tied_weights_keys)

    @_tied_weights_keys.setter
    def _tied_weights_keys(self, ties: dict[str, str] | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.__dict__["_plain_ties"] = ties

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Ties that hold now; those of the plain class name a table that is gone."""
        if not places_of(self):  # while the plain class is built
            return super().get_expanded_tied_weights_keys(all_submodels)
        return self.all_tied_weights_keys

    @classmethod
    def is_custom_code(cls) -> bool:
        # transformers would skip modules without parameters of their own, among them those that
        # compute the buffers of others (Falcon-H1).
        return cast(Any, cls).base_class.is_custom_code()

    def mark_tied_weights_as_initialized(self, loading_info: Any) -> None:  # noqa: ANN401
        # One module under two names: marking the second would hide that the first is missing.
        # transformers' own knows parameters alone; packed codes are buffers.
        missing = {*shared_names(self).values()} & set(loading_info.missing_keys)
        for name in self.all_tied_weights_keys:
            cast(Any, self.get_parameter_or_buffer(name))._is_hf_initialized = True
        for name in missing:
            cast(Any, self.get_parameter_or_buffer(name))._is_hf_initialized = False
        loading_info.missing_keys |= missing

    def _adjust_bias(self, output_embeddings: nn.Module, input_embeddings: nn.Module) -> None:
        # transformers cuts a bias beside a tied weight to that weight's first dimension, which in
        # a group linear layer is the number of groups. Resizing adjusts biases here.
        if not places_of(self):
            super()._adjust_bias(output_embeddings, input_embeddings)

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Refused: the embedding is described in the configuration, and heads are tied to it.

        Raises:
            ValueError: Once the model is built.
        """
        if any(place.table is None for place in places_of(self)):
            raise ValueError(
                f"{type(self).__name__} has its embedding described in its configuration: set rows "
                "with set_rows, sizes with resize_token_embeddings, and another embedding with "
                "replace_embedding(export(model), ...)."
            )
        super().set_input_embeddings(value)

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Puts another head in place of the present one, which is untied then.

        Raises:
            ValueError: If one of both has a bias and the other has not: it would not load again.
        """
        old = self.get_output_embeddings() if places_of(self) else new_embeddings
        biases = [getattr(head, "bias", None) is not None for head in (old, new_embeddings)]
        if biases[0] != biases[1]:
            raise ValueError(
                f"The output head of {type(self).__name__} has {'a' if biases[0] else 'no'} bias; "
                f"the new {type(new_embeddings).__name__} must have the same."
            )
        super().set_output_embeddings(new_embeddings)

    def resize_token_embeddings(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
        *,
        table: str | None = None,
        check: bool = True,
    ) -> nn.Module:
        """Changes the size of the vocabulary, in place; the first rows of the Map stay as they are.

        Args:
            new_num_tokens: New size V; the present one if omitted.
            pad_to_multiple_of: Rounds the size up to a multiple of this.
            mean_resizing: Whether new rows start (nearly) at the mean of the old ones, instead of
                being drawn like them.
            table: Name of the table, one of :func:`~define.huggingface.find_tables` of the plain
                model, such as a decoder's that has its own; the model's input table if omitted.
            check: Whether a few tokens are read before and after, and outputs compared.

        Returns:
            The embedding, the same object as before where it is of this package.

        Raises:
            ValueError: If the padding row or a band would be cut off, or the model gives other
                outputs than before.
        """
        name = resize_model(self, new_num_tokens, pad_to_multiple_of, mean_resizing, table, check)
        self._describe()
        return self.get_submodule(name)

    def resize_decoder_token_embeddings(self, new_num_tokens: int) -> nn.Module:
        """Resizes the table of a decoder that has its own, as Marian can."""
        table = self.get_decoder().get_input_embeddings()
        name = next(name for name, part in self.named_modules() if part is table)
        return self.resize_token_embeddings(new_num_tokens, table=name)

    def _describe(self) -> None:
        kept = {k: v for k, v in self.config.define.items() if k in ("base", "without")}
        self.config.define = {**kept, **described(self)}

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        save_directory: str | os.PathLike,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Saves the model with what rebuilds its embeddings as they are now.

        Beside the weights it writes a file by which ``trust_remote_code=True`` finds this package,
        and a README that says how to load the model, unless there is one.

        Raises:
            ValueError: If the embedding was exchanged in a way that would not load again.
        """
        self._describe()
        super().save_pretrained(save_directory, **kwargs)
        if kwargs.get("is_main_process", True):
            Path(save_directory, LOADER).write_text(LOADER_TEXT, encoding="utf-8")
            if not Path(save_directory, "README.md").exists():
                write_readme(save_directory, self)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | os.PathLike | None,
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Self:
        """Loads a model; a weight that is missing or left over is an error.

        Raises:
            ValueError: If the checkpoint has no embedding of this package, or other weights than
                the model. A model of another architecture may draw what it adds (the head of a
                classifier) and leave what it lacks, but never the embedding.
        """
        wants_info = kwargs.pop("output_loading_info", False)
        model, info = cast(Any, super()).from_pretrained(
            pretrained_model_name_or_path, *args, output_loading_info=True, **kwargs
        )
        _check_loaded(cast(PreTrainedModel, model), info)
        return cast(Any, (model, info) if wants_info else model)


def _check_loaded(model: PreTrainedModel, info: dict[str, Any]) -> None:
    second = shared_names(model)
    keys = {
        kind: sorted(str(key) for key in info.get(f"{kind}_keys", ()) if key not in second)
        for kind in ("missing", "unexpected", "mismatched")
    }
    if not any(keys.values()):
        return
    name, saved = type(model).__name__, (model.config.architectures or ["?"])[0]
    if name != saved:
        owners = [f"{place.name}." for place in places_of(model)]
        lacking = (*keys["missing"], *keys["mismatched"])
        if not any(owner in key for owner in owners for key in lacking):
            return  # what another architecture adds or lacks is reported by transformers
    raise ValueError(
        f"The checkpoint of a {saved} does not fit {name}: "
        + "; ".join(f"{kind} {found}" for kind, found in keys.items() if found)
        + "."
    )


@cache
def model_class(base: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """The class of `base` with an embedding of this package, such as `DefineGPT2LMHeadModel`."""
    if issubclass(base, DefineModel):
        raise TypeError(f"{base.__name__} already has an embedding of this package.")
    return type(
        f"Define{base.__name__}",
        (DefineModel, base),
        {
            "__doc__": f"`{base.__name__}` with an embedding of this package.",
            "__module__": "define.huggingface",
            "config_class": config_class(base.config_class),
            "base_class": base,
            "__reduce__": lambda self: (_blank, (model_class, base), vars(self)),
        },
    )


def _blank(make: Callable[[type], Any], base: type) -> object:
    # Classes that are made when needed have no module where pickle would find them.
    cls = make(base)
    return cls.__new__(cls)


@cache
def config_class(base: type[PreTrainedConfig]) -> type[PreTrainedConfig]:
    """The configuration class of `base` with an embedding of this package."""
    if base.model_type not in CONFIG_MAPPING:
        raise TypeError(
            f"A model with a {base.__name__} could not be loaded again: transformers knows no "
            f"model_type={base.model_type!r}. Call AutoConfig.register and AutoModel.register "
            "first, here and in programs that load it."
        )
    return type(
        f"Define{base.__name__}",
        (base,),
        {
            "__doc__": f"`{base.__name__}` with an embedding of this package.",
            "__module__": "define.huggingface",
            "model_type": "define",
            "base_class": base,
            "__reduce__": lambda self: (_blank, (config_class, base), vars(self)),
            "tie_word_embeddings": property(_flag, _set_flag),
        },
    )


def _flag(config: PreTrainedConfig) -> bool | None:
    base = cast(Any, type(config)).base_class  # whose default some types set
    return vars(config).get("tie_word_embeddings", getattr(base, "tie_word_embeddings", None))


def _set_flag(config: PreTrainedConfig, value: bool | None) -> None:
    # Models scale their outputs by it, and tie biases. Heads here are tied as `define` says, so
    # that whoever finds two tables (PEFT, after merging) must not change it.
    if "define" not in vars(config):
        vars(config)["tie_word_embeddings"] = value


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
                "transformers knows, by itself or by AutoConfig.register."
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
        # Some auto classes map a configuration to a model of another one.
        several = models if isinstance(models, list | tuple) else [models]
        ours = [model_class(model) for model in several if model.config_class is base]
        if ours:  # where there are several, config.architectures chooses
            auto.register(derived, ours[0] if len(ours) == 1 else tuple(ours), exist_ok=True)


AutoConfig.register("define", DefineConfig)


def define_config(config: PreTrainedConfig, define: dict[str, Any]) -> PreTrainedConfig:
    """A copy of a plain configuration, with what rebuilds the embeddings."""
    derived = config_as(config, config_class(type(config)))
    derived.define = {"base": type(config).model_type, **define}
    derived.auto_map = {"AutoConfig": f"{LOADER.removesuffix('.py')}.DefineConfig"}
    return derived


def embedding_of(model: PreTrainedModel, table: str | None = None) -> nn.Module:
    """The embedding of this package in a model, whatever the model puts around it.

    Args:
        model: A model with such an embedding.
        table: Name of the table that it replaced; that of the model's input if omitted.

    Raises:
        ValueError: If there is none.
    """
    for place in places_of(model):
        if place.table == table:
            return place.embedding(model)
    known = [place.table for place in places_of(model)]
    raise ValueError(f"{type(model).__name__} has no embedding for {table=}, only for {known}.")
