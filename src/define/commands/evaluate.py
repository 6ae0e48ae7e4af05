"""Measure the perplexity of a trained run on a split of its text; BLEU if it translates."""

from pathlib import Path
from typing import TYPE_CHECKING

from define.commands.common import open_run, translates

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser


def command(parser: "ArgumentParser", args: list[str]) -> None:
    """Runs the command."""
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
