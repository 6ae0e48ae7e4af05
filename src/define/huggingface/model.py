"""Models of transformers with an embedding of this package: one class for each of theirs."""

import os
from functools import cache
from typing import TYPE_CHECKING, Any, Self, cast

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel

from define.embedding.base import table_size
from define.embedding.description import build, describe
from define.huggingface.borrowed import BorrowedEmbedding
from define.huggingface.config import config_class
from define.huggingface.head import TiedHead
from define.huggingface.install import install, make_embedding
from define.huggingface.places import find_places
from define.huggingface.resize import resize
from define.huggingface.scaled import ScaledEmbedding

__all__ = ["DefineModel", "embedding_of", "input_entry", "model_class"]

_Base = PreTrainedModel if TYPE_CHECKING else object


class DefineModel(_Base):
    """What a model gains with an embedding of this package; mixed in before its own class.

    Configurations carry in ``config.define`` how the embedding is rebuilt and whether the head is
    tied to it.
    """

    def __init__(self, config: PreTrainedConfig, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(config, *args, **kwargs)
        define = getattr(config, "define", None)
        if define is None:
            raise ValueError(
                f"{type(config).__name__} has no 'define': configure the plain model and call "
                "replace_embedding on it."
            )
        places = find_places(self)
        embedding = make_embedding(places, build(define["embedding"]))
        install(self, places, embedding, define["tie"])

    def get_expanded_tied_weights_keys(self, all_submodels: bool = False) -> dict[str, str]:
        """Ties that hold now; those of the plain class name a table that is gone."""
        ties = self.__dict__.get("_define_ties")
        if ties is None:  # while the plain class is built
            return super().get_expanded_tied_weights_keys(all_submodels)
        return dict(ties)

    def resize_token_embeddings(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        new_num_tokens: int | None = None,
        pad_to_multiple_of: int | None = None,
        mean_resizing: bool = True,
    ) -> nn.Module:
        """Changes the size of the vocabulary; the first rows of the Map stay as they are.

        Args:
            new_num_tokens: New size V; the present one if omitted.
            pad_to_multiple_of: Rounds the size up to a multiple of this.
            mean_resizing: Whether new rows start (nearly) at the mean of the old ones, instead of
                being drawn like them.

        Returns:
            The input embedding, the same object as before.
        """
        if pad_to_multiple_of is not None and pad_to_multiple_of < 1:
            raise ValueError(f"{pad_to_multiple_of=} must be at least 1.")
        size = table_size(embedding_of(self))[0] if new_num_tokens is None else new_num_tokens
        if pad_to_multiple_of is not None:
            size = -(-size // pad_to_multiple_of) * pad_to_multiple_of
        resize(self, embedding_of(self), size, mean_resizing)
        self.config.define = {**self.config.define, **_state(self)}
        return self.get_input_embeddings()

    def save_pretrained(  # pyright: ignore[reportIncompatibleMethodOverride]
        self,
        save_directory: str | os.PathLike,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """Saves the model with what rebuilds its embedding as it is now."""
        self.config.define = {**self.config.define, **_state(self)}
        super().save_pretrained(save_directory, **kwargs)

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
        },
    )


def input_entry(model: PreTrainedModel) -> nn.Module:
    """The module that owns the embedding: the embedding, or Gemma's scale around it."""
    entry = model.get_input_embeddings()
    return entry.tied.module if isinstance(entry, BorrowedEmbedding) else entry


def embedding_of(model: PreTrainedModel) -> nn.Module:
    """The embedding of this package in a model, whatever the model puts around it."""
    entry = input_entry(model)
    return entry.embedding if isinstance(entry, ScaledEmbedding) else entry


def _state(model: PreTrainedModel) -> dict[str, Any]:
    head = model.get_output_embeddings()
    return {"embedding": describe(embedding_of(model)), "tie": isinstance(head, TiedHead)}


def _check_loaded(model: PreTrainedModel, info: dict[str, Any]) -> None:
    keys = {
        kind: sorted(str(key) for key in info.get(f"{kind}_keys", ()))
        for kind in ("missing", "unexpected", "mismatched")
    }
    if not any(keys.values()):
        return
    name, saved = type(model).__name__, (model.config.architectures or ["?"])[0]
    if name != saved:
        entry = input_entry(model)
        owner = next(key for key, module in model.named_modules() if module is entry)
        wrong = [key for key in (*keys["missing"], *keys["mismatched"]) if f"{owner}." in key]
        if not wrong:
            return  # what another architecture adds or lacks is reported by transformers
    raise ValueError(
        f"The checkpoint of a {saved} does not fit {name}: "
        + "; ".join(f"{kind} {found}" for kind, found in keys.items() if found)
        + "."
    )
