"""Count the parameters of every model in the paper's tables, ours beside theirs."""

import json

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    arguments = parser.parse_args(args)
    from define.measures.paper import paper_json, paper_rows, paper_table

    rows = paper_rows()
    print(json.dumps(paper_json(rows), indent=2) if arguments.json else paper_table(rows))
