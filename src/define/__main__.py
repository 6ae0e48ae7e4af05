"""The command line: `define COMMAND ...`; each command imports what it needs when it runs."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from define import recipes

if TYPE_CHECKING:
    from define.recipes import Experiment
    from define.training import Run

RECIPES = {
    "pydocs": recipes.pydocs,
    "penn-treebank": recipes.penn_treebank,
    "wikitext-2": recipes.wikitext_2,
    "text": recipes.text,
}


def main(args: list[str] | None = None) -> None:
    """Runs a command; errors that a user can mend end in one line, not in a traceback."""
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        print(_overview())
        return
    if command not in COMMANDS:
        raise SystemExit(f"define: unknown command {command!r}; {', '.join(COMMANDS)} are known.")
    make_parser, run = COMMANDS[command]
    parser = make_parser()
    parser.prog = f"define {command}"
    try:
        run(parser.parse_args(rest))
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError) as error:
        raise SystemExit(f"define: {error}") from error


def _overview() -> str:
    lines = [f"  {name:<12}{make().description}" for name, (make, _) in COMMANDS.items()]
    return (
        "usage: define COMMAND ...\n\n" + "\n".join(lines) + "\n\ndefine COMMAND --help says more."
    )


def _recipe_parser(name: str) -> ArgumentParser:
    recipe = RECIPES[name]
    parser = ArgumentParser(description=(recipe.__doc__ or "").splitlines()[0])
    parser.add_function_arguments(recipe, sub_configs=True)
    return parser


def _train_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Train a language model by a recipe.")
    names = parser.add_subcommands(dest="recipe", metavar="RECIPE")
    for name in RECIPES:
        recipe = _recipe_parser(name)
        recipe.add_argument("--run", type=Path | None, default=None, help="folder of the run")
        recipe.add_argument("--config", action="config", help="YAML file with these arguments")
        names.add_subcommand(name, recipe, help=recipe.description)
    return parser


def _train(arguments: Namespace) -> None:
    name = arguments.recipe
    settings = arguments[name]
    folder, _ = settings.pop("run"), settings.pop("config")
    parser = _recipe_parser(name)
    run = _prepare_run(parser, name, settings, folder)
    experiment = RECIPES[name](**parser.instantiate_classes(settings).as_dict())
    summary = recipes.train(experiment, run)
    print(_table([run.path]))
    print(f"\n{run.path}: test perplexity {summary['test_perplexity']:.2f}")


def _prepare_run(
    parser: ArgumentParser, recipe: str, settings: Namespace, folder: Path | None
) -> "Run":
    """The run's folder with its configuration in it; a folder of another one is an error."""
    from define.training import Run

    if folder is None:
        kind = settings.embedding.class_path.rpartition(".")[2]
        folder = Path("runs") / f"{recipe}-{kind}-{settings.seed}"
    run = Run(folder)
    text = f"# define train {recipe} --config {run.config.name}\nrecipe: {recipe}\n"
    text += parser.dump(settings)
    if run.config.exists():
        if run.config.read_text(encoding="utf-8") != text:
            raise ValueError(
                f"{run.path} holds a run with other settings ({run.config}): name another --run."
            )
        if run.summary.exists():
            raise ValueError(f"{run.path} holds a finished run: name another --run.")
    else:
        run.path.mkdir(parents=True, exist_ok=True)
        run.config.write_text(text, encoding="utf-8")
    return run


def _open_run(path: Path) -> "tuple[Experiment, Run]":
    """A trained run and its experiment, with the run's own vocabulary."""
    from define.training import Run

    run = Run.open(path)
    text = run.config.read_text(encoding="utf-8")
    name = next(line for line in text.splitlines() if line.startswith("recipe: "))
    recipe = name.removeprefix("recipe: ")
    parser = _recipe_parser(recipe)
    settings = parser.parse_string(text.replace(name, ""))
    settings["data.vocabulary"] = run.vocabulary
    experiment = RECIPES[recipe](**parser.instantiate_classes(settings).as_dict())
    return experiment, run


def _evaluate_parser() -> ArgumentParser:
    parser = ArgumentParser(description="Perplexity of a trained run on a split of its text.")
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--split", default="test", help="train, valid or test")
    parser.add_argument(
        "--batch_size", type=int | None, default=None, help="columns of text; 1 for final figures"
    )
    return parser


def _evaluate(arguments: Namespace) -> None:
    experiment, run = _open_run(arguments.run)
    perplexity = recipes.evaluate(experiment, run, arguments.split, arguments.batch_size)
    print(f"{run.path}: {arguments.split} perplexity {perplexity:.2f}")


COMMANDS: dict[str, Any] = {
    "train": (_train_parser, _train),
    "evaluate": (_evaluate_parser, _evaluate),
}


def _table(paths: list[Path]) -> str:
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])
