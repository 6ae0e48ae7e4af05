"""Calculate what each embedding costs for a vocabulary, and from which size on it pays."""

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    from define.measures import cost_table, embedding_costs

    parser.add_function_arguments(embedding_costs)
    settings = parser.instantiate(parser.parse_args(args))
    print(cost_table(embedding_costs(**settings.as_dict())))
