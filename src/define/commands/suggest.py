"""Suggest an embedding for a vocabulary, from what was measured."""

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    from define.measures.suggest import suggest

    parser.add_function_arguments(suggest)
    print(suggest(**parser.parse_args(args).as_dict()))
