"""Train a model by a recipe, or go on with a run that was stopped."""

from pathlib import Path
from typing import TYPE_CHECKING

from define.commands.common import summary_of, table_of

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
    from define.files import write_text
    from define.recipes.settings import (
        RECIPES,
        check_free,
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
        chosen = settings.embedding
        kind = chosen.class_path.rpartition(".")[2] if chosen else "AdaptiveEmbedding"
        kind = "DeFINE" if settings.get("unit") else kind
        folder = Path("runs") / f"{name}-{kind}-{settings.seed}"

    run = Run(folder)
    check_free(run, name, settings)
    config = config_text(name, settings)
    experiment = make_experiment(name, settings)  # before the folder is taken: it may be wrong
    run.path.mkdir(parents=True, exist_ok=True)
    if not (run.config.exists() and run.vocabulary.exists()):  # else it goes on with these
        write_text(run.config, config)
    experiment.train(run)
    print(table_of([summary_of(run)]))
