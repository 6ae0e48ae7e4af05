"""Draws the figures of the guide from the library and from docs/log.md.

Those of the page on novels are taken from the folder of its report, where one is given.
"""

import re
import sys
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

from define.groups import group_schedule, width_schedule
from define.measures.counting import shapes_only
from define.report.style import INK

FOLDER = Path(__file__).parent / "figures"
BLUE, ORANGE, GREEN = "#4477aa", "#ee7733", "#228833"  # told apart by colour-blind readers too
GREY = "#808080"  # read on white and on black
plt.rcParams |= {
    "svg.hashsalt": "define",
    "svg.fonttype": "none",
    "savefig.transparent": True,
    "font.size": 10,
    "text.color": GREY,
    "axes.edgecolor": GREY,
    "axes.labelcolor": GREY,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def save(figure: plt.Figure, name: str) -> None:
    """Writes a figure without a date, so that it is the same each time."""
    path = FOLDER / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None}, bbox_inches="tight")
    text = path.read_text("utf-8")
    path.write_text(re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE), "utf-8")
    plt.close(figure)


def unit() -> None:
    """The matrices of a unit: groups grow fewer and wider from layer to layer."""
    map_dim, expand_dim, depth, width = 64, 256, 3, 128
    groups = group_schedule(depth, 8)
    sizes = (map_dim, *width_schedule(map_dim, expand_dim, groups))
    figure, axes = plt.subplots(2, 2, figsize=(4.6, 4.4))  # read on a phone too
    for layer, (axis, count) in enumerate(zip(axes.flat, (*groups, 1), strict=True)):
        last = layer == depth
        rows = width if last else sizes[layer + 1]
        columns = sizes[layer] + (map_dim if layer else 0)
        for group in range(count):
            corner = (group * columns / count, group * rows / count)
            color = BLUE if not last else ORANGE
            size = (columns / count, rows / count)
            axis.add_patch(plt.Rectangle(corner, *size, fc=color, ec="white", lw=0.6))
        axis.set(xlim=(0, 330), ylim=(265, 0), aspect="equal")
        axis.axis("off")
        name = "Reduce" if last else f"Expand {layer + 1}"
        kind = "1 group" if count == 1 else f"{count} groups"
        axis.set_title(f"{name}: {kind}\n{columns:.0f} → {rows}", fontsize=10)
    save(figure, "unit")


def parameters() -> None:
    """What the input side costs for each size of vocabulary."""
    from torch import nn

    from define import DeFINE, ProjectedEmbedding

    sizes = [1000, 3000, 10_000, 30_000, 100_000, 300_000]
    kinds = {
        "standard, m = 400": (GREY, lambda v: nn.Embedding(v, 400)),
        "projected, n = 128": (BLUE, lambda v: ProjectedEmbedding(v, 400, map=128)),
        "DeFINE, n = 128": (ORANGE, lambda v: DeFINE(v, 400, map=128)),
    }
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    for name, (color, make) in kinds.items():
        with shapes_only():
            counts = [sum(p.numel() for p in make(v).parameters()) / 1e6 for v in sizes]
        axis.loglog(sizes, counts, "o-", color=color, label=name, markersize=4)
    axis.set(xlabel="words in the vocabulary", ylabel="parameters, millions")
    axis.legend(frameon=False)
    save(figure, "parameters")


def table(heading: str, title: str) -> dict[str, list[str]]:
    """Rows of a table of the log: the one whose head begins with a title, below a heading."""
    log = (Path(__file__).parent / "log.md").read_text("utf-8")
    text = log[log.index(f": {heading}") :]
    lines = text[text.index(f"| {title}") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip(" *") for cell in line.strip("|").split("|")] for line in lines]
    return {name: values for name, *values in (cells[0], *cells[2:])}


def epochs() -> None:
    """Validation perplexity over fifteen epochs of Penn Treebank."""
    found = table("Penn Treebank for fifteen epochs", "validation after epoch, seed 1")
    (head, steps), *rows = found.items()
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    for (name, values), color in zip(rows, (GREY, BLUE, ORANGE), strict=True):
        axis.plot(list(map(int, steps)), list(map(float, values)), "o-", color=color, label=name)
    axis.set(xlabel="epoch", ylabel="validation perplexity", yscale="log")
    axis.set_yticks([100, 120, 150, 200], ["100", "120", "150", "200"])
    axis.minorticks_off()
    axis.legend(frameon=False)
    save(figure, "epochs")


def compression() -> None:
    """Error of a compressed table by its share of the parameters."""
    found = table("compression of trained tables", "share of the parameters")
    head, *rows = found.items()
    shares = [name for name, _ in rows]
    figure, axis = plt.subplots(figsize=(4.6, 3.2))
    for place, (name, color) in enumerate((("truncated SVD", BLUE), ("DeFINE", ORANGE))):
        errors = [float(values[place].split(";")[1].strip(" *")) for _, values in rows]
        axis.plot(shares, errors, "o-", color=color, label=name)
    axis.set(xlabel="share of the parameters of the table", ylabel="relative error", ylim=(0, None))
    axis.legend(frameon=False)
    save(figure, "compression")


def novels(report: Path) -> None:
    """Two figures of `define analyze` for the page on novels, in ink for any page."""
    for ours, theirs in (("novels-epochs", "history"), ("novels-words", "map-1")):
        text = (report / f"{theirs}.svg").read_text("utf-8")
        text = re.sub(r"color-scheme:[^;]*;|@media[^{]*\{:root\{[^}]*\}\}", "", text)
        (FOLDER / f"{ours}.svg").write_text(text.replace(f"--figure-0:{INK}", f"--figure-0:{GREY}"))


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for folder in sys.argv[1:]:
        novels(Path(folder))
    unit()
    parameters()
    epochs()
    compression()
