"""The command line: `define COMMAND ...`. Each command imports what it needs when it runs."""

import json
import logging
import shlex
import sys
from collections.abc import Callable
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser, Namespace

    from define.analysis import RunSummary
    from define.recipes import Experiment
    from define.training import Run

RECIPES = ("pydocs", "penn-treebank", "wikitext-2", "text")


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
    from jsonargparse import ArgumentParser

    logging.basicConfig(format="%(message)s")
    logging.getLogger("define").setLevel(logging.INFO)
    parser = ArgumentParser(prog=f"define {command}", description=COMMANDS[command].__doc__)
    try:
        COMMANDS[command](parser, rest)
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError) as error:
        sys.exit(f"define: {error}")
    except KeyboardInterrupt:
        sys.exit("define: interrupted")


def train(parser: "ArgumentParser", args: list[str]) -> None:
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

    from define import recipes
    from define.training import Run

    run = Run(folder)
    config = f"# recipe: {name}\n{_recipe_parser(name).dump(settings)}"
    _check_free(run, config)
    experiment = _experiment(name, settings)  # before the folder is taken: it may be wrong
    run.path.mkdir(parents=True, exist_ok=True)
    run.config.write_text(config, "utf-8")
    recipes.train(experiment, run)
    print(_table([_summary(run)]))


def evaluate(parser: "ArgumentParser", args: list[str]) -> None:
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
    from define import recipes

    experiment, run = _open_run(arguments.run, arguments.data.path)
    perplexity = recipes.evaluate(experiment, run, arguments.split, arguments.batch_size)
    print(f"{run.path}: {arguments.split} perplexity {perplexity:.2f}")


def generate(parser: "ArgumentParser", args: list[str]) -> None:
    """Continue a prompt with a trained run."""
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--prompt", default="", help="words as in the training text")
    parser.add_argument("--length", type=int, default=100, help="words to add")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest word")
    parser.add_argument("--top_k", type=int | None, default=None, help="samples from k words only")
    parser.add_argument("--seed", type=int, default=1, help="of the samples")
    arguments = parser.parse_args(args)
    from define import recipes

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


def compare(parser: "ArgumentParser", args: list[str]) -> None:
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


def analyze(parser: "ArgumentParser", args: list[str]) -> None:
    """Measure why embeddings work: correlations, frequencies and neighbours, in a report."""
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs of one vocabulary")
    parser.add_argument(
        "--output", type=Path, default=Path("analysis"), help="folder of the report"
    )
    parser.add_argument("--words", nargs="*", default=[], help="words to find neighbours of")
    parser.add_argument(
        "--compare_with",
        "--compare-with",
        type=Path,
        nargs="*",
        default=[],
        help="other runs, or tables of the same vocabulary (.npy, .safetensors)",
    )
    parser.add_argument("--split", default="test", help="text for perplexity by frequency")
    parser.add_argument("--data.path", type=Path | None, default=None, help="where the text is now")
    arguments = parser.parse_args(args)
    from define import analysis
    from define.data import Segments
    from define.training import Run

    summaries = [_summary(Run.open(path)) for path in arguments.runs]
    others = [path for path in arguments.compare_with if path.is_dir()]
    opened = {path: _load_run(path, arguments.data.path) for path in (*arguments.runs, *others)}
    corpus = opened[arguments.runs[0]].data.open()
    for path, experiment in opened.items():
        if experiment.data.open().vocabulary != corpus.vocabulary:
            raise ValueError(f"{path} has another vocabulary than {arguments.runs[0]}.")
    words, counts, text = corpus.vocabulary.words, corpus.counts, corpus.split(arguments.split)
    tables = {
        path.resolve().name: opened[path].model.embedding
        if path in opened
        else analysis.read_table(path, len(words))
        for path in arguments.compare_with
    }
    for word in arguments.words:
        if word not in corpus.vocabulary:
            raise ValueError(f"{word!r} is not among the {len(words)} words of the vocabulary.")
    chosen = corpus.vocabulary.encode(arguments.words) or analysis.some_words(words, counts)

    findings = []
    for path, summary in zip(arguments.runs, summaries, strict=True):
        model, settings = opened[path].model, opened[path].training
        findings.append(
            analysis.analyze(
                model,
                words,
                counts,
                Segments(text, settings.evaluation_batch_size, settings.length, drop_last=False),
                summary,
                Run(path).config.read_text("utf-8"),
                chosen,
                {name: analysis.similarity(model.embedding, t) for name, t in tables.items()},
            )
        )
    command = shlex.join(["define", "analyze", *args])
    print(analysis.write_report(findings, words, arguments.output, command, arguments.split))


def parameters(parser: "ArgumentParser", args: list[str]) -> None:
    """Count the parameters of every model in the paper's tables, ours beside theirs."""
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    arguments = parser.parse_args(args)
    from define.recipes.paper import paper_json, paper_rows, paper_table

    rows = paper_rows()
    print(json.dumps(paper_json(rows), indent=2) if arguments.json else paper_table(rows))


def embeddings(parser: "ArgumentParser", args: list[str]) -> None:
    """Calculate what each embedding costs for a vocabulary, and from which size on it pays."""
    from define.analysis import cost_table, embedding_costs

    parser.add_function_arguments(embedding_costs)
    print(cost_table(embedding_costs(**parser.parse_args(args).as_dict())))


COMMANDS: dict[str, Callable[["ArgumentParser", list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "compare": compare,
    "analyze": analyze,
    "parameters": parameters,
    "embeddings": embeddings,
}


def _recipe(name: str) -> "Callable[..., Experiment]":
    from define import recipes

    return getattr(recipes, name.replace("-", "_"))


def _recipe_parser(name: str) -> "ArgumentParser":
    from jsonargparse import ArgumentParser

    recipe = _recipe(name)
    parser = ArgumentParser(description=(recipe.__doc__ or "").splitlines()[0])
    parser.add_function_arguments(recipe, sub_configs=True)
    return parser


def _experiment(name: str, settings: "Namespace") -> "Experiment":
    return _recipe(name)(**_recipe_parser(name).instantiate(settings).as_dict())


def _check_free(run: "Run", config: str) -> None:
    """Raises a ValueError if a run's folder holds other settings or a finished run."""
    if run.config.exists() and run.vocabulary.exists():  # else its training never began
        lines = run.config.read_text("utf-8").splitlines(), config.splitlines()
        for theirs, ours in zip_longest(*lines, fillvalue=""):
            if theirs != ours:
                raise ValueError(
                    f"{run.config} has other settings ({theirs.strip()!r} instead of "
                    f"{ours.strip()!r}): name another --run."
                )
        if run.summary.exists():
            raise ValueError(f"{run.path} is a finished run: name another --run.")


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


def _load_run(folder: Path, data_path: Path | None) -> "Experiment":
    """The experiment of a trained run, with its weights in the model."""
    experiment, run = _open_run(folder, data_path)
    run.load_weights(experiment.model)
    return experiment


def _summary(run: "Run") -> "RunSummary":
    from define.analysis import RunSummary

    return RunSummary.from_json(run.summary)


def _table(summaries: "list[RunSummary]", average_seeds: bool = False) -> str:
    from define.analysis import comparison_table

    return comparison_table(summaries, average_seeds)


if __name__ == "__main__":
    main()
