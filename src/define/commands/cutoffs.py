"""Choose where to cut a vocabulary for an adaptive softmax that takes the least time."""

from define.commands import ArgumentParser


def command(parser: ArgumentParser, args: list[str]) -> None:
    from dataclasses import fields

    import torch

    from define.data import Text
    from define.measures.table import text_table
    from define.softmax import AdaptiveSoftmaxCost, choose_cutoffs

    parser.add_class_arguments(Text, "data")
    parser.add_class_arguments(AdaptiveSoftmaxCost)
    parser.add_argument("--bands", type=int, default=5, help="the most bands")
    settings = parser.parse_args(args)
    if settings.bands < 2:
        raise ValueError(f"--bands {settings.bands} must be at least 2: one band is not cut.")
    cost = AdaptiveSoftmaxCost(**{f.name: settings[f.name] for f in fields(AdaptiveSoftmaxCost)})
    if cost.width < cost.div_value ** (settings.bands - 1):
        sizes = f"--width {cost.width} and --div_value {cost.div_value}"
        raise ValueError(f"--bands {settings.bands} leaves the last no width with {sizes}.")
    corpus = parser.instantiate(settings).data.open()
    size = len(corpus.vocabulary)
    if settings.bands > size:
        raise ValueError(f"--bands {settings.bands}: the text has words for at most {size}.")
    full = float(cost.head(torch.tensor(size), 0))
    rows = []
    for bands in range(2, settings.bands + 1):
        found = choose_cutoffs(corpus.counts, cost, bands)
        ratio = cost(corpus.counts, found) / full
        rows.append([str(bands), ", ".join(map(str, found)), f"{ratio:.3f}"])
    print(text_table(("at most", "cutoffs", "cost / full softmax"), rows))
