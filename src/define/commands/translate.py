"""Translate standard input with a trained run, one line out for each line in."""

import sys
from pathlib import Path

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument("run", type=Path, help="folder of the run")
    parser.add_argument(
        "--num_beams",
        "--beams",
        type=int | None,
        default=None,
        help="width of the search, the recipe's if omitted; 1 is greedy",
    )
    parser.add_argument(
        "--batch_size",
        type=int | None,
        default=None,
        help="sentences at a time, the recipe's if omitted",
    )
    arguments = parser.parse_args(args)
    from define.recipes.settings import open_run

    experiment, _ = open_run(arguments.run)
    lines = []
    for number, line in enumerate(sys.stdin.buffer, 1):
        try:
            lines.append(line.decode().strip())
        except UnicodeDecodeError as error:
            raise ValueError(f"Line {number} of the input is not UTF-8: {error}") from error
    sizes = {"num_beams": arguments.num_beams, "batch_size": arguments.batch_size}
    for line in experiment.translate(lines, **sizes):
        sys.stdout.buffer.write(f"{line}\n".encode())
    sys.stdout.buffer.flush()
