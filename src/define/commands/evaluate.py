"""Measure the perplexity of a trained run on a split of its text; BLEU if it translates."""

from inspect import signature
from pathlib import Path

from define.commands import ArgumentParser
from define.commands.unused import refuse


def command(parser: ArgumentParser, args: list[str]) -> None:
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
        "--num_beams",
        "--beams",
        type=int | None,
        default=None,
        help="of a translation model, the recipe's if omitted; 1 is greedy and quick",
    )
    arguments = parser.parse_args(args)
    fixed = ["cache.theta", "cache.weight"]
    if arguments.tune_cache:
        refuse(parser, arguments, fixed, "would be chosen by --tune_cache")
    elif arguments.cache.size == 0:
        refuse(parser, arguments, fixed, "needs a --cache.size")
    from define.recipes.settings import open_run
    from define.training import ContinuousCache

    experiment, run = open_run(arguments.run, arguments.data.path)
    given = {
        "batch_size": arguments.batch_size,
        "cache": ContinuousCache(**arguments.cache.as_dict()) if arguments.cache.size else None,
        "tune_cache": arguments.tune_cache or None,
        "num_beams": arguments.num_beams,
    }
    given = {name: value for name, value in given.items() if value is not None}
    if foreign := given.keys() - signature(experiment.evaluate).parameters.keys():
        raise ValueError(f"{run.path} is evaluated without {', '.join(sorted(foreign))}.")
    print(f"{run.path}: {arguments.split} {experiment.evaluate(arguments.split, **given)}")
