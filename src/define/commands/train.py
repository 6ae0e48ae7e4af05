"""Train a model by a recipe, or go on with a run that was stopped."""

from pathlib import Path
from typing import TYPE_CHECKING

from define.commands.common import (
    RECIPES,
    check_free,
    make_experiment,
    recipe_parser,
    summary_of,
    table_of,
    translates,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
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

    from define import recipes
    from define.training import Run

    run = Run(folder)
    config = f"# recipe: {name}\n{recipe_parser(name).dump(settings)}"
    check_free(run, config)
    experiment = make_experiment(name, settings)  # before the folder is taken: it may be wrong
    run.path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(config, "utf-8")
    if translates(experiment):
        recipes.train_translation(experiment, run)
    else:
        recipes.train(experiment, run)
    print(table_of([summary_of(run)]))
