"""Train a model by a recipe, or go on with a run that was stopped."""

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from define.commands.common import embedding_name, summary_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
    if args[:1] in (["-h"], ["--help"]):
        print(_help())
        return
    from define.files import write_text
    from define.measures import comparison_table
    from define.recipes.settings import (
        RECIPES,
        begin,
        config_text,
        make_experiment,
        recipe_parser,
    )
    from define.training import Run

    names = parser.add_subcommands(dest="recipe", metavar="RECIPE", title="recipes")
    for name in RECIPES:
        recipe = recipe_parser(name)
        recipe.add_argument("--config", action="config", help="YAML file with these arguments")
        recipe.add_argument(
            "--run",
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
        kind = embedding_name(settings.as_dict())
        folder = Path("runs") / f"{name}-{kind}-{settings.seed}"

    run = Run(folder)
    settings = begin(run, name, settings)
    experiment = make_experiment(name, settings)  # before the folder is taken: it may be wrong
    run.path.mkdir(parents=True, exist_ok=True)
    if not run.begun:
        write_text(run.config, config_text(name, settings))
    experiment.train(run)
    print(comparison_table([summary_of(run)]))


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
