"""The settings of recipes as command lines and as the `config.yaml` of runs."""

from argparse import SUPPRESS, ArgumentError
from collections.abc import Callable
from dataclasses import fields
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_type_hints

import torch

from define import recipes
from define.embedding import tied_table
from define.files import check_place
from define.recipes.compressed import read_tables
from define.training import MACHINE, Experiment, Run, Training
from define.untrusted import HEAD, check_names, read_settings

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

__all__ = [
    "GROUPS",
    "RECIPES",
    "begin",
    "config_text",
    "make_experiment",
    "open_run",
    "recipe_parser",
]

GROUPS = {
    "one CPU core": (
        "pydocs",
        "text",
        "penn-treebank-small",
        "wikitext-2",
        "wikitext-2-transformer-xl",
        "wikipedia-lstm-small",
        "wikipedia-transformer-xl-small",
        "multi30k",
    ),
    "a GPU": (
        "penn-treebank",
        "penn-treebank-fast",
        "penn-treebank-finetune",
        "wikitext-103",
        "wikitext-103-lstm",
        "wikipedia-25m",
        "wmt14",
    ),
}
"""Recipes by what they need."""

RECIPES = tuple(name for names in GROUPS.values() for name in names)

SHORT = (
    "data.path",
    "run",
    "embedding",
    "embedding_dim",
    "hidden_size",
    "num_layers",
    "dropout",
    "map_dim",
    "cutoffs",
    "tie",
    "max_tokens",
    "training.epochs",
    "training.batch_size",
    "training.learning_rate",
    "training.unit_rate",
    "training.start_from_text",
    "training.accelerator",
    "training.precision",
    "seed",
)
"""Options that the help of a recipe shows first."""

_WITH_UNIT = ("wikitext-103", "wikitext-103-lstm", "wikitext-2-transformer-xl", "wikipedia-25m")
"""Recipes that took the arguments of DeFINE as `unit`, up to version 0.1, beside its Map."""


def _recipe(name: str) -> Callable[..., Experiment]:
    return getattr(recipes, name.replace("-", "_"))


def recipe_parser(name: str) -> "ArgumentParser":
    """The arguments of a recipe: those of its signature."""
    from define.arguments import Parser

    recipe = _recipe(name)
    parser = Parser(description=(recipe.__doc__ or "").splitlines()[0], short=SHORT)
    parser.add_function_arguments(recipe, sub_configs=True)
    for setting in _former(recipe):
        parser.add_argument(f"--{setting}", type=Any, default=SUPPRESS, help=SUPPRESS)
    if name in _WITH_UNIT:
        parser.add_argument("--unit", type=dict[str, Any] | None, default=SUPPRESS, help=SUPPRESS)
    return parser


def _former(recipe: Callable[..., Experiment]) -> list[str]:
    """Settings that had no effect and are gone: read in files of before, and dropped.

    Translation had those of batches of text.
    """
    training = get_type_hints(recipe).get("training", Training)
    known = {field.name for field in fields(training)}
    return [f"training.{f.name}" for f in fields(Training) if f.name not in known]


def _resolved(name: str, settings: "Namespace") -> "Namespace":
    """Settings with absolute paths, without what recipes no longer have."""
    settings = settings.clone()
    for setting in _former(_recipe(name)):
        settings.pop(setting, None)
    if "unit" in settings:
        settings = _without_unit(name, settings)
    for key, value in settings.items():
        if isinstance(value, Path):  # a run is also used from other folders
            settings[key] = value.absolute()
    return settings


def _without_unit(name: str, settings: "Namespace") -> "Namespace":
    """The embedding as it is chosen now, from DeFINE's arguments and its Map."""
    given, embedding = settings.pop("unit"), settings.as_dict()["embedding"]
    large = "inner_dim" in settings  # Transformer-XL
    own = {"expand_dim": 4096 if large else 1024, "depth": 3 if large else 7, "max_groups": 128}
    own |= {"groups": None, "skip": "mix", "shuffle": False, "reduce": True, "reduce_map": True}
    own |= {"activation": "torch.nn.ReLU", "dropout": 0.0}
    if name == "wikitext-2-transformer-xl":  # had no unit of its own
        own |= {"expand_dim": 1024, "max_groups": 16}
    unit = None if given is None else own | given
    if embedding is None and unit == own:
        return settings  # what the recipe makes
    if embedding is None:
        wide = {"map_dim": settings.map_dim, "div_value": 1.0} if large else {}
        options = {"cutoffs": settings.cutoffs, **wide}
        embedding = {"class_path": "AdaptiveEmbedding", "init_args": options}
    if unit is not None:
        embedding = {"class_path": "DeFINE", "init_args": {"map": embedding, **unit}}
    return recipe_parser(name).parse_object({**settings.as_dict(), "embedding": embedding})


def config_text(name: str, settings: "Namespace") -> str:
    """What `config.yaml` of a run holds."""
    return f"{HEAD}{name}\n{recipe_parser(name).dump(_resolved(name, settings))}"


def make_experiment(name: str, settings: "Namespace") -> Experiment:
    """The experiment of a recipe with parsed arguments."""
    settings = _resolved(name, settings)
    return _recipe(name)(**recipe_parser(name).instantiate(settings).as_dict())


def _read(run: Run, given: "Namespace | None" = None) -> "tuple[str, Namespace]":
    """The recipe of a run, and its settings as they are written.

    Args:
        run: The run.
        given: Settings of a command line: what they name is trusted.
    """
    name, settings = read_settings(run.config)
    if name is None or name not in RECIPES:
        raise ValueError(f"{run.config} is of the recipe {name!r}, not of one of these: {RECIPES}.")
    check_names(run.config, settings, given.as_dict() if given else None)
    parser = recipe_parser(name)
    parser.exit_on_error = False
    try:
        return name, parser.parse_object(settings)
    except (ArgumentError, ValueError, TypeError, AttributeError, KeyError) as error:
        what = " ".join(str(error).split())[:300]
        raise ValueError(f"{run.config} is damaged or of another version: {what}") from error


def _as_before(name: str, settings: "Namespace") -> "Namespace":
    """Fills in what a recipe left open when a run was begun, and fills in otherwise now.

    Up to version 0.1, whose settings of translation have sizes of batches of text, narrow tables
    of translation were drawn wider, and what is embedded was scaled by the inverse.
    """
    before = any(setting in settings for setting in _former(_recipe(name)))
    if before and settings.embedding_std is None:
        make = recipe_parser(name).instantiate(_resolved(name, settings)).embedding
        with torch.device("meta"):
            table = tied_table(make(settings.data.vocabulary_size, settings.embedding_dim))
        narrow = table.embedding_dim != settings.embedding_dim
        settings.embedding_std = ((3 if narrow else 1) / cast(int, table.embedding_dim)) ** 0.5
    return settings


def begin(run: Run, name: str, settings: "Namespace") -> "Namespace":
    """The settings to begin a run with, or to go on with in a folder where one was begun.

    Those of the machine may then be others, see `MACHINE`; all else stays what it was.

    Raises:
        FileNotFoundError: If the data are not there, or a file of a run that was begun.
        ValueError: If the folder holds a finished run, or one with other settings.
    """
    if not run.begun:
        if run.resumable:
            missing = run.vocabulary if run.config.exists() else run.config
            raise FileNotFoundError(
                f"{missing} is gone, and there is a checkpoint: put it back, or name another --run."
            )
        check_place(run.path)
        return settings
    run.check()
    path = settings.get("data.path")
    if path is not None and not path.exists():  # before the difference, which it may be
        raise FileNotFoundError(f"--data.path {path} does not exist.")
    way_out = "name another --run"
    if run.tables.exists():
        raise ValueError(f"{run.path} is a compressed run, which is not trained: {way_out}.")
    if "start_from" in settings and run.weights.is_file():
        way_out += f", which begins with the weights of this one by --start_from {run.path}"
    lines = (_compared(*_read(run, settings)), _compared(name, settings))
    for theirs, ours in zip_longest(*lines, fillvalue=""):
        if theirs != ours:
            raise ValueError(
                f"{run.config} has other settings ({theirs.strip()!r} instead of "
                f"{ours.strip()!r}): {way_out}."
            )
    if run.summary.exists():
        raise ValueError(f"{run.path} is a finished run: {way_out}.")
    _, theirs = _read(run, settings)
    for setting in MACHINE:
        theirs[f"training.{setting}"] = settings[f"training.{setting}"]
    return _as_before(name, theirs)


def _compared(name: str, settings: "Namespace") -> list[str]:
    settings = settings.clone()
    default = recipe_parser(name).get_defaults(skip_validation=True)
    for setting in MACHINE:
        settings[f"training.{setting}"] = default[f"training.{setting}"]
    return config_text(name, settings).splitlines()


def open_run(folder: Path, data_path: Path | None = None) -> tuple[Experiment, Run]:
    """A trained run and its experiment, with the run's own vocabulary and its best weights.

    Args:
        folder: Of the run.
        data_path: Where its text is now; where it was if omitted.

    Raises:
        FileNotFoundError: If the folder is no trained run.
        ValueError: If one of its files is damaged or does not fit.
    """
    run = Run.open(folder)
    name, settings = _read(run)
    settings = _as_before(name, settings)
    for setting, file in _kind(name).settings_of_run(run).items():
        settings[setting] = file
    if data_path is not None:
        settings["data.path"] = data_path
    try:
        experiment = make_experiment(name, settings)
    except Exception as error:  # classes of torch that are built from it raise their own
        if isinstance(error, OSError) or str(run.path) in str(error):
            raise
        raise ValueError(f"{run.config} does not make a model: {error}") from error
    if run.tables.is_file():
        read_tables(run, experiment.model)
    run.load_weights(experiment.model)
    return experiment, run


def _kind(name: str) -> type[Experiment]:
    """The kind of experiment that a recipe returns."""
    return get_type_hints(_recipe(name))["return"]
