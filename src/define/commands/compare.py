"""Compare trained runs in one table and one figure."""

import json
import logging
import sys
from pathlib import Path

from define.commands import ArgumentParser
from define.commands.common import summary_of, warn_of_differences
from define.commands.unused import refuse

logger = logging.getLogger("define")


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--figure", type=Path, default=Path("comparison.png"), help="PNG or SVG")
    parser.add_argument(
        "--average_seeds", action="store_true", help="one row for runs that differ in the seed"
    )
    parser.add_argument("--json", action="store_true", help="the summaries instead of the table")
    arguments = parser.parse_args(args)
    if arguments.json:
        refuse(parser, arguments, ["average_seeds"], "is for the table: leave out --json")
    from define.files import checksum
    from define.measures import comparison_table
    from define.report import draw_comparison
    from define.training import Run

    runs = [Run.open(path) for path in arguments.runs]
    summaries = [summary_of(run) for run in runs]
    warn_of_differences(
        [summary.name for summary in summaries],
        vocabularies=[checksum(run.vocabulary) for run in runs],
        texts=[summary.texts for summary in summaries],
    )
    if arguments.json:
        print(json.dumps([run.read_summary() for run in runs], indent=2))
    else:
        print(comparison_table(summaries, arguments.average_seeds))
    if boxes := draw_comparison(summaries, arguments.figure):
        logger.warning(
            "No font here has %s: boxes in %s. A figure that ends in .svg uses its reader's fonts.",
            *(" ".join(boxes), arguments.figure),
        )
    print(f"\nFigure: {arguments.figure}", file=sys.stderr)
