"""The command line: `define COMMAND ...`. Each command imports what it needs when it runs."""

import json
import logging
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from define.command_line import (
    RECIPES,
    check_free,
    make_experiment,
    open_run,
    recipe_parser,
    subject_of,
    summary_of,
    table_of,
    translates,
)

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


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
    try:
        from jsonargparse import ArgumentParser

        parser = ArgumentParser(prog=f"define {command}", description=COMMANDS[command].__doc__)
        COMMANDS[command](parser, rest)
    except ModuleNotFoundError as error:
        if (error.name or "define").split(".")[0] == "define":
            raise  # none that could be installed
        sys.exit(
            f"define: {error.name} is not installed: define {command} needs more than the library; "
            "pip install 'define-embeddings[all]' brings it."
        )
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError) as error:
        sys.exit(f"define: {error}")
    except KeyboardInterrupt:
        sys.exit("define: interrupted")


def train(parser: "ArgumentParser", args: list[str]) -> None:
    """Train a model by a recipe, or go on with a run that was stopped."""
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


def evaluate(parser: "ArgumentParser", args: list[str]) -> None:
    """Measure the perplexity of a trained run on a split of its text; BLEU if it translates."""
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--split", default="test", help="train, valid or test")
    parser.add_argument(
        "--batch_size",
        type=int | None,
        default=None,
        help="columns of text, the recipe's if omitted; 1 gives each token its whole context",
    )
    parser.add_argument("--data.path", type=Path | None, default=None, help="where the text is now")
    parser.add_argument(
        "--cache.size",
        type=int,
        default=0,
        help="mix in a continuous cache of so many positions, 2000 for example; none if 0",
    )
    parser.add_argument("--cache.theta", type=float, default=0.66, help="flatness of the cache")
    parser.add_argument("--cache.weight", type=float, default=0.13, help="share of the cache")
    parser.add_argument(
        "--tune_cache", action="store_true", help="choose theta and weight on validation text first"
    )
    parser.add_argument(
        "--beams",
        type=int | None,
        default=None,
        help="of a translation model, the recipe's if omitted; 1 is greedy and quick",
    )
    arguments = parser.parse_args(args)
    from define import recipes
    from define.training import ContinuousCache

    cache = ContinuousCache(**arguments.cache.as_dict()) if arguments.cache.size else None
    experiment, run = open_run(arguments.run, arguments.data.path)
    if translates(experiment):
        if cache is not None or arguments.tune_cache:
            raise ValueError(f"{run.path} is a run of translation: it takes no cache.")
        split, options = arguments.split, (arguments.batch_size, arguments.beams)
        ppl, score, signature = recipes.evaluate_translation(experiment, run, split, *options)
        print(f"{run.path}: {split} perplexity {ppl:.2f}, BLEU {score:.2f} ({signature})")
        return
    said = ""
    if arguments.tune_cache:
        cache = cache or ContinuousCache()
        cache = recipes.tune_cache(experiment, run, cache, arguments.batch_size)
    if cache is not None:
        said = f" with cache size {cache.size}, theta {cache.theta}, weight {cache.weight}"
    perplexity = recipes.evaluate(experiment, run, arguments.split, arguments.batch_size, cache)
    print(f"{run.path}: {arguments.split} perplexity {perplexity:.2f}{said}")


def translate(parser: "ArgumentParser", args: list[str]) -> None:
    """Translate standard input with a trained run, one line out for each line in."""
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--beams", type=int, default=4, help="width of the search, 1 is greedy")
    parser.add_argument("--batch_size", type=int, default=64, help="sentences at a time")
    arguments = parser.parse_args(args)
    from define import recipes

    experiment, run = open_run(arguments.run)
    if not translates(experiment):
        raise ValueError(f"{run.path} is a run of a language model: it does not translate.")
    run.load_weights(experiment.model)
    lines = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            lines.append(line.decode().strip())
        except UnicodeDecodeError as error:
            raise ValueError(f"Line {number} of the input is not UTF-8: {error}") from error
    sizes = {"beams": arguments.beams, "batch_size": arguments.batch_size}
    for line in recipes.translate(experiment, lines, **sizes):
        sys.stdout.buffer.write(f"{line}\n".encode())
    sys.stdout.buffer.flush()


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

    experiment, run = open_run(arguments.run)
    if translates(experiment):
        raise ValueError(f"{run.path} translates: use define translate {run.path}.")
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
    from define.report import draw_comparison
    from define.training import Run

    runs = [Run.open(path) for path in arguments.runs]
    summaries = [summary_of(run) for run in runs]
    if arguments.json:
        print(json.dumps([json.loads(run.summary.read_text("utf-8")) for run in runs], indent=2))
    else:
        print(table_of(summaries, arguments.average_seeds))
    draw_comparison(summaries, arguments.figure)
    print(f"\nFigure: {arguments.figure}", file=sys.stderr)


def analyze(parser: "ArgumentParser", args: list[str]) -> None:
    """Measure why embeddings work: correlations, frequencies and neighbours, in a report."""
    parser.add_argument(
        "runs",
        type=Path,
        nargs="+",
        help="folders of runs, or of Hugging Face checkpoints, of one vocabulary",
    )
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
        help="other runs, checkpoints or tables (.npy, .safetensors) of the same vocabulary",
    )
    parser.add_argument(
        "--table", default=None, help="the checkpoints' embedding, where its name is unusual"
    )
    parser.add_argument("--split", default="test", help="text for perplexity by frequency")
    parser.add_argument("--data.path", type=Path | None, default=None, help="where the text is now")
    arguments = parser.parse_args(args)
    from define import measures, report

    folders = [path for path in arguments.compare_with if path.is_dir()]
    subjects = {
        path: report.read_checkpoint(path, arguments.table)
        if report.is_checkpoint(path)
        else subject_of(path, arguments.data.path, arguments.split)
        for path in dict.fromkeys([*arguments.runs, *folders])
    }
    first = subjects[arguments.runs[0]]
    words = first.words
    for path, subject in subjects.items():
        if subject.words != words:
            raise ValueError(f"{path} has another vocabulary than {arguments.runs[0]}.")
    tables = {
        path.resolve().name: measures.held(subjects[path].table)
        if path in subjects
        else measures.read_table(path, len(words))
        for path in arguments.compare_with
    }
    chosen = report.find_words(words, arguments.words)
    chosen = chosen or report.some_words(words, first.counts)
    findings = []
    for subject in map(subjects.__getitem__, arguments.runs):
        ours = measures.held(subject.table) if tables else subject.table
        alike = {name: measures.similarity(ours, table) for name, table in tables.items()}
        findings.append(report.analyze(subject, chosen, alike))
    command = shlex.join(["define", "analyze", *args])
    print(report.write_report(findings, words, arguments.output, command, arguments.split))


def parameters(parser: "ArgumentParser", args: list[str]) -> None:
    """Count the parameters of every model in the paper's tables, ours beside theirs."""
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    arguments = parser.parse_args(args)
    from define.recipes.paper import paper_json, paper_rows, paper_table

    rows = paper_rows()
    print(json.dumps(paper_json(rows), indent=2) if arguments.json else paper_table(rows))


def embeddings(parser: "ArgumentParser", args: list[str]) -> None:
    """Calculate what each embedding costs for a vocabulary, and from which size on it pays."""
    from define.measures import cost_table, embedding_costs

    parser.add_function_arguments(embedding_costs)
    print(cost_table(embedding_costs(**parser.parse_args(args).as_dict())))


def cutoffs(parser: "ArgumentParser", args: list[str]) -> None:
    """Choose where to cut a vocabulary for an adaptive softmax that takes the least time."""
    from dataclasses import fields

    import torch

    from define.data import Text
    from define.measures.table import text_table
    from define.softmax import AdaptiveSoftmaxCost, choose_cutoffs

    parser.add_class_arguments(Text, "data")
    parser.add_class_arguments(AdaptiveSoftmaxCost)
    parser.add_argument("--bands", type=int, default=5, help="the most bands")
    settings = parser.parse_args(args)
    corpus = parser.instantiate(settings).data.open()
    cost = AdaptiveSoftmaxCost(**{f.name: settings[f.name] for f in fields(AdaptiveSoftmaxCost)})
    full = float(cost.head(torch.tensor(len(corpus.vocabulary)), 0))
    rows = []
    for bands in range(2, settings.bands + 1):
        found = choose_cutoffs(corpus.counts, cost, bands)
        ratio = cost(corpus.counts, found) / full
        rows.append([str(bands), ", ".join(map(str, found)), f"{ratio:.3f}"])
    print(text_table(("at most", "cutoffs", "cost / full softmax"), rows))


def compress(parser: "ArgumentParser", args: list[str]) -> None:
    """Compress the token table of a Hugging Face checkpoint into a DeFINE."""
    parser.add_argument("model", type=Path, help="folder of the checkpoint")
    parser.add_argument("--output", type=Path, required=True, help="new folder for the result")
    parser.add_argument(
        "--share",
        type=float | None,
        default=None,
        help="parameters of the DeFINE over those of the table; picks --map and --expand_dim",
    )
    parser.add_argument("--map", type=int | None, default=None, help="width n of the Map")
    parser.add_argument("--expand_dim", type=int | None, default=None, help="width k of Expand")
    parser.add_argument("--depth", type=int, default=1, help="layers of Expand")
    parser.add_argument("--max_groups", type=int, default=1, help="groups of Expand's first layer")
    parser.add_argument(
        "--weights",
        type=Path | None,
        default=None,
        help="text file with one number a line, what an error in each row of the table costs",
    )
    parser.add_argument("--rounds", type=int, default=40, help="most rounds of the fit")
    parser.add_argument("--seed", type=int, default=0, help="of the fit")
    arguments = parser.parse_args(args)
    if (arguments.share is None) == (arguments.map is None):
        raise ValueError("Give either --share or --map.")
    if arguments.share is not None and arguments.expand_dim is not None:
        raise ValueError("--share picks --expand_dim: give --map instead of --share.")
    if arguments.output.exists():
        raise ValueError(f"{arguments.output} exists already: name another --output.")
    from define import DeFINE
    from define.compression import widths_for_share
    from define.huggingface.compress import compress, load_plain, read_weights

    def make(num_embeddings: int, embedding_dim: int, padding_idx: int | None) -> DeFINE:
        shape = {"depth": arguments.depth, "max_groups": arguments.max_groups}
        map, expand_dim = arguments.map, arguments.expand_dim
        if arguments.share is not None:
            widths = widths_for_share(num_embeddings, embedding_dim, arguments.share, **shape)
            map, expand_dim = widths.map, widths.expand_dim
            print(f"map={map}, expand_dim={expand_dim}: {widths.parameters:,} parameters")
        if expand_dim is not None:
            shape["expand_dim"] = expand_dim
        return DeFINE(num_embeddings, embedding_dim, padding_idx, map=map, **shape)

    weights = None if arguments.weights is None else read_weights(arguments.weights)
    model, tokenizer = load_plain(arguments.model)
    model, result = compress(model, make, weights, rounds=arguments.rounds, seed=arguments.seed)
    model.save_pretrained(arguments.output)
    if tokenizer is not None:
        tokenizer.save_pretrained(arguments.output)
    print(result)


COMMANDS: dict[str, Callable[["ArgumentParser", list[str]], None]] = {
    "train": train,
    "evaluate": evaluate,
    "generate": generate,
    "translate": translate,
    "compare": compare,
    "analyze": analyze,
    "parameters": parameters,
    "embeddings": embeddings,
    "cutoffs": cutoffs,
    "compress": compress,
}


if __name__ == "__main__":
    main()
