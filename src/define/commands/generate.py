"""Continue a prompt with a trained run."""

from pathlib import Path

from define.commands import ArgumentParser
from define.commands.unused import refuse


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument("--prompt", default="", help="text as the training text")
    parser.add_argument("--length", type=int, default=100, help="words to add")
    parser.add_argument("--temperature", type=float, default=1.0, help="0 takes the likeliest word")
    parser.add_argument("--top_k", type=int | None, default=None, help="samples from k words only")
    parser.add_argument("--ban", nargs="*", default=[], help="words never to add, such as '<unk>'")
    parser.add_argument("--lines", type=int | None, default=None, help="stop after so many lines")
    parser.add_argument("--seed", type=int, default=1, help="of the samples")
    arguments = parser.parse_args(args)
    if arguments.temperature == 0:
        refuse(parser, arguments, ["top_k", "seed"], "is for samples: temperature 0 takes none")
    from define.recipes.settings import open_run

    experiment, _ = open_run(arguments.run)
    print(
        experiment.generate(
            arguments.prompt,
            arguments.length,
            temperature=arguments.temperature,
            top_k=arguments.top_k,
            ban=arguments.ban,
            lines=arguments.lines,
            seed=arguments.seed,
        )
    )
