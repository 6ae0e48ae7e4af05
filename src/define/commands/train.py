"""Train a model by a recipe, or go on with a run that was stopped."""

import logging
import shlex
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from define.commands.common import embedding_name, summary_of
from define.commands.unused import kept, without_effect

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from define.training import Experiment, Run

logger = logging.getLogger("define")


def command(parser: "ArgumentParser", args: list[str]) -> None:
    if args[:1] in (["-h"], ["--help"]):
        print(_help())
        return
    from define.measures import comparison_table
    from define.recipes.settings import (
        RECIPES,
        begin,
        config_text,
        make_experiment,
        recipe_parser,
    )
    from define.training import Placement, Run, Stopped, keep_memory

    names = parser.add_subcommands(dest="recipe", metavar="RECIPE", title="recipes")
    # To build the parsers of all recipes takes longer than to train a tiny model.
    for name in [name for name in args[:1] if name in RECIPES] or RECIPES:
        recipe = recipe_parser(name)
        recipe.add_argument("--config", action="config", help="YAML file with these arguments")
        recipe.add_argument(
            "--run",
            "--run_folder",  # torchrun takes --run for an abbreviation of its own
            type=Path | None,
            default=None,
            help="folder of the run; the same command again goes on where it was stopped",
        )
        names.add_subcommand(name, recipe, help=recipe.description)
    arguments = parser.parse_args(args)
    name = arguments.recipe
    settings = arguments[name]
    folder, _ = settings.pop("run"), settings.pop("config")
    if folder is None:
        kind = embedding_name(name, settings.as_dict())
        folder = Path("runs") / f"{name}-{kind}-{settings.seed}"

    run, given = Run(folder), settings
    settings = begin(run, name, given)
    try:  # before the folder is taken: it may be wrong
        experiment = make_experiment(name, settings)
        _say_what(experiment, run)
    except (AssertionError, RuntimeError) as error:  # classes of torch raise their own
        raise ValueError(f"These settings do not make a model: {error}") from error
    if not Placement.of(experiment.training).rank:  # the first process says it
        defaults = recipe_parser(name).get_defaults(skip_validation=True)
        for line in (*without_effect(experiment, settings, defaults), *kept(settings, defaults)):
            logger.warning(line)
    keep_memory()
    try:
        # Asked again: another process may have begun or ended a training there by now.
        experiment.train(run, lambda: config_text(name, begin(run, name, given)))
    except Stopped as stopped:
        print(f"define: {run.path}: {stopped}", file=sys.stderr)
        sys.exit(stopped.code)
    print(comparison_table([summary_of(run)]))
    _say_next(experiment, run)


def _say_what(experiment: "Experiment[Any, Any, Any]", run: "Run") -> None:
    """Says what is about to be trained, and where."""
    import torch

    from define.training import Placement

    if Placement.of(experiment.training).rank:
        return  # the first process says it
    training, embedding = experiment.training, experiment.model.embedding
    counts = experiment.model.parameter_counts()
    device = training.accelerator
    if device == "auto":
        device = "gpu" if torch.cuda.is_available() else "cpu"
    logger.info(
        f"{run.path}: {type(embedding).__name__}({embedding.extra_repr()}); {counts.total:,} "
        f"parameters: {counts.unit:,} of the unit, {counts.context:,} of the context model, "
        f"{counts.input_output:,} of input and output"
    )
    logger.info(
        f"{run.path}: {device.upper()}, devices {training.devices}, numbers "
        f"{training.precision}, learning rate {training.learning_rate:g}, epochs {training.epochs}"
    )


def _say_next(experiment: "Experiment[Any, Any, Any]", run: "Run") -> None:
    """Says where everything is, and what can be done with it."""
    verb = "generate" if hasattr(experiment.corpus, "counts") else "translate"
    path = shlex.quote(str(run.path))
    logger.info(
        f"All of it is in {run.path}. Next: define {verb} {path}, define analyze {path}, "
        f"define compare {path} OTHER; in Python define.load({str(run.path)!r})."
    )


def _help() -> str:
    """The recipes by what they need."""
    from define.recipes.settings import GROUPS, RECIPES, recipe_parser

    width = max(map(len, RECIPES)) + 4
    lines = ["usage: define train RECIPE [OPTIONS]", "", __doc__ or ""]
    for need, names in GROUPS.items():
        lines += ["", f"recipes for {need}:"]
        for name in names:
            text = f"  {name}".ljust(width) + str(recipe_parser(name).description)
            lines += textwrap.wrap(text, 100, subsequent_indent=" " * width)
    return "\n".join([*lines, "", "define train RECIPE --help says more."])
