"""Options that were given and would have no effect, or another one: refused, or said."""

from collections.abc import Iterable, Iterator
from inspect import signature
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from define.training import Experiment

__all__ = ["kept", "refuse", "without_effect"]


def refuse(
    parser: "ArgumentParser", arguments: "Namespace", options: Iterable[str], why: str
) -> None:
    """Refuses options that differ from their defaults.

    Args:
        parser: Knows the defaults.
        arguments: What was given.
        options: Those that would have no effect.
        why: Ends the sentence that begins with an option and its value.

    Raises:
        ValueError: If one was given; it and its value are named.
    """
    for name in options:
        value = arguments[name]
        if value != parser.get_default(name):
            raise ValueError(f"--{name}{'' if value is True else f' {value}'} {why}.")


def without_effect(
    experiment: "Experiment[Any, Any, Any]", settings: "Namespace", defaults: "Namespace"
) -> Iterator[str]:
    """Yields a sentence for each setting of a training that was given and changes nothing."""
    from define.training import Placement

    data, training, model = settings.data, experiment.training, experiment.model
    backbone, head = getattr(model, "backbone", None), getattr(model, "head", None)
    cutoffs = getattr(head, "cutoffs", ())
    width = getattr(backbone, "output_size", None)
    placement = Placement.of(training)
    words = "the vocabulary is given"
    if not data.get("vocabulary"):
        words = data.get("tokenizer") and "it is for words, and these are subwords"
    reasons = {
        "data.max_size": words,
        "data.min_count": words,
        "data.size": (data.get("tokenizer") != "bpe" or data.get("vocabulary"))
        and "no tokenizer is learned",
        "data.vocabulary_size": data.get("tokenizer") and "the tokenizer is given",
        "cutoffs": tuple(settings.get("cutoffs", ())) != tuple(cutoffs)
        and f"the softmax is cut as the embedding is, {list(cutoffs)}",
        "map_dim": settings.get("embedding")
        and "embedding_dim" in settings
        and "the embedding that is given has its own width",
        "output_size": width != settings.get("output_size") and f"the last layer is {width} wide",
        "hidden_size": settings.get("num_layers") == 1
        and width != settings.get("hidden_size")
        and f"the only layer is {width} wide",
        "dropout": settings.get("num_layers") == 1
        and None not in (settings.get("input_dropout"), settings.get("output_dropout"))
        and "it is between layers, and there is one",
        "training.start_from_text": settings.get("start_from") and "it starts from a run",
        "training.unit_rate": not model.parameter_counts().unit
        and "no row of the embedding is computed",
        "training.shard_parameters": placement.world_size == 1 and "there is one device",
        "training.devices": placement.devices != training.devices
        and f"whoever started this process gave it {placement.devices}",
    }
    for name, why in reasons.items():
        if why and settings.get(name) != defaults.get(name):
            yield f"--{name} {settings.get(name)} has no effect: {why}."
    rate = "the rate is --training.learning_rate"
    drawn = "tables are drawn with --embedding_std"
    for place, argument, why in (
        ("training.optimizer", "lr", rate),
        ("embedding", "std", drawn),
        ("embedding.init_args.map", "std", drawn),
    ):
        own, value, recipes = _argument(argument, settings.get(place), defaults.get(place))
        if value not in (own, recipes):
            place = place.replace(".init_args", "")
            yield f"--{place}.{argument} {value} has no effect: {why}."


def kept(settings: "Namespace", defaults: "Namespace") -> Iterator[str]:
    """Yields a sentence for what an optimizer has of another one, that of the recipe.

    Arguments of the same name stay what they were when the class alone is another.
    """
    optimizer, other = (of.get("training.optimizer") for of in (settings, defaults))
    if not hasattr(optimizer, "init_args") or optimizer.class_path == other.class_path:
        return
    for name in vars(optimizer.init_args):
        own, value, recipes = _argument(name, optimizer, other)
        if name != "lr" and value == recipes != own:
            kind = optimizer.class_path.rpartition(".")[2]
            yield (
                f"--training.optimizer.{name} is {value}, as the recipe has it; {kind}'s own is "
                f"{own}."
            )


def _argument(name: str, chosen: Any, usual: Any) -> tuple[object, object, object]:  # noqa: ANN401
    """An argument's default of a class, its value among the settings, and that of the recipe."""
    if not hasattr(chosen, "init_args"):  # none, a number, or a function
        return None, None, None
    known = signature(resolve_name(chosen.class_path)).parameters
    value = chosen.init_args.get(name)
    own = known[name].default if name in known else value
    return own, value, getattr(usual, "init_args", {}).get(name)
