"""The command line: `define COMMAND ...`. Each command imports what it needs when it runs."""

import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from jsonargparse import ArgumentParser, Namespace

from define import recipes

if TYPE_CHECKING:
    from define.analysis import RunSummary
    from define.recipes import Experiment
    from define.training import Run

RECIPES: dict[str, "Callable[..., Experiment]"] = {
    "pydocs": recipes.pydocs,
    "penn-treebank": recipes.penn_treebank,
    "wikitext-2": recipes.wikitext_2,
    "text": recipes.text,
}


def main(args: list[str] | None = None) -> None:
    """Runs a command; errors that a user can mend end in one line, not in a traceback."""
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        lines = (f"  {name:<12}{COMMANDS[name].__doc__}" for name in COMMANDS)
        print("usage: define COMMAND ...\n", *lines, "", sep="\n")
        print("define COMMAND --help says more.")
        return
    if command not in COMMANDS:
        sys.exit(f"define: unknown command {command!r}; it is one of {', '.join(COMMANDS)}.")
    logging.basicConfig(format="%(message)s")
    logging.getLogger("define").setLevel(logging.INFO)
    parser = ArgumentParser(prog=f"define {command}", description=COMMANDS[command].__doc__)
    try:
        COMMANDS[command](parser, rest)
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError) as error:
        sys.exit(f"define: {error}")
    except KeyboardInterrupt:
        sys.exit("define: interrupted")


def train(parser: ArgumentParser, args: list[str]) -> None:
    """Train a language model by a recipe, or go on with a run that was stopped."""
    names = parser.add_subcommands(dest="recipe", metavar="RECIPE", title="recipes")
    for name in RECIPES:
        recipe = _recipe_parser(name)
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
        kind = settings.embedding.class_path.rpartition(".")[2]
        folder = Path("runs") / f"{name}-{kind}-{settings.seed}"

    run = _prepare_run(folder, name, _recipe_parser(name).dump(settings))
    recipes.train(_experiment(name, settings), run)
    print(_table([_summary(run)]))


def evaluate(parser: ArgumentParser, args: list[str]) -> None:
    """Measure the perplexity of a trained run on a split of its text."""
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--split", default="test", help="train, valid or test")
    parser.add_argument(
        "--batch_size",
        type=int | None,
        default=None,
        help="columns of text, the recipe's if omitted; 1 gives each token its whole context",
    )
    parser.add_argument("--data.path", type=Path | None, default=None, help="where the text is now")
    arguments = parser.parse_args(args)
    experiment, run = _open_run(arguments.run, arguments.data.path)
    perplexity = recipes.evaluate(experiment, run, arguments.split, arguments.batch_size)
    print(f"{run.path}: {arguments.split} perplexity {perplexity:.2f}")


def generate(parser: ArgumentParser, args: list[str]) -> None:
    """Continue a prompt with a trained run."""
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--prompt", default="", help="words as in the training text")
    parser.add_argument("--length", type=int, default=100, help="words to add")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest word")
    parser.add_argument("--top_k", type=int | None, default=None, help="samples from k words only")
    parser.add_argument("--seed", type=int, default=1, help="of the samples")
    arguments = parser.parse_args(args)
    experiment, run = _open_run(arguments.run)
    print(
        recipes.generate(
            experiment,
            run,
            arguments.prompt,
            arguments.length,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            seed=arguments.seed,
        )
    )


def compare(parser: ArgumentParser, args: list[str]) -> None:
    """Compare trained runs in one table and one figure."""
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--figure", type=Path, default=Path("comparison.png"), help="PNG or SVG")
    parser.add_argument(
        "--average_seeds", action="store_true", help="one row for runs that differ in the seed"
    )
    parser.add_argument("--json", action="store_true", help="the summaries instead of the table")
    arguments = parser.parse_args(args)
    from define.analysis import draw_comparison
    from define.training import Run

    runs = [Run.open(path) for path in arguments.runs]
    summaries = [_summary(run) for run in runs]
    if arguments.json:
        print(json.dumps([json.loads(run.summary.read_text("utf-8")) for run in runs], indent=2))
    else:
        print(_table(summaries, arguments.average_seeds))
    draw_comparison(summaries, arguments.figure)
    print(f"\nFigure: {arguments.figure}", file=sys.stderr)


def parameters(parser: ArgumentParser, args: list[str]) -> None:
    """Count the parameters of every model in the paper's tables, ours beside theirs."""
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    arguments = parser.parse_args(args)
    from define.recipes.paper import paper_json, paper_rows, paper_table

    rows = paper_rows()
    print(json.dumps(paper_json(rows), indent=2) if arguments.json else paper_table(rows))


def embeddings(parser: ArgumentParser, args: list[str]) -> None:
    """Calculate what each embedding costs for a vocabulary, and from which size on it pays."""
    from define.analysis import cost_table, embedding_costs

    parser.add_function_arguments(embedding_costs)
    print(cost_table(embedding_costs(**parser.parse_args(args).as_dict())))


COMMANDS: dict[str, Callable[[ArgumentParser, list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "compare": compare,
    "parameters": parameters,
    "embeddings": embeddings,
}


def _recipe_parser(name: str) -> ArgumentParser:
    recipe = RECIPES[name]
    parser = ArgumentParser(description=(recipe.__doc__ or "").splitlines()[0])
    parser.add_function_arguments(recipe, sub_configs=True)
    return parser


def _experiment(name: str, settings: Namespace) -> "Experiment":
    return RECIPES[name](**_recipe_parser(name).instantiate_classes(settings).as_dict())


def _prepare_run(folder: Path, recipe: str, settings: str) -> "Run":
    """The run's folder with its configuration in it; one of other settings is an error."""
    from define.training import Run

    run = Run(folder)
    text = f"# recipe: {recipe}\n{settings}"
    if run.config.exists():
        if run.config.read_text("utf-8") != text:
            raise ValueError(f"{run.config} has other settings: name another --run.")
        if run.summary.exists():
            raise ValueError(f"{run.path} is a finished run: name another --run.")
    run.path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(text, "utf-8")
    return run


def _open_run(folder: Path, data_path: Path | None = None) -> "tuple[Experiment, Run]":
    """A trained run and its experiment, with the run's own vocabulary."""
    from define.training import Run

    run = Run.open(folder)
    first, text = run.config.read_text("utf-8").split("\n", 1)
    name = first.removeprefix("# recipe: ")
    if name not in RECIPES:
        raise ValueError(f"{run.config} begins with {first!r} instead of the name of a recipe.")
    settings = _recipe_parser(name).parse_string(text)
    settings["data.vocabulary"] = run.vocabulary
    if data_path is not None:
        settings["data.path"] = data_path
    return _experiment(name, settings), run


def _summary(run: "Run") -> "RunSummary":
    from define.analysis import RunSummary

    return RunSummary.from_json(run.summary)


def _table(summaries: "list[RunSummary]", average_seeds: bool = False) -> str:
    from define.analysis import comparison_table

    return comparison_table(summaries, average_seeds)


if __name__ == "__main__":
    main()
