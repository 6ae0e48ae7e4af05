"""List the runs in folders: recipe, embedding, how far each is, and its perplexity."""

import csv
import json
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from define.commands.common import embedding_name, summary_of
from define.untrusted import read_settings

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

    from define.training import Run


def command(parser: "ArgumentParser", args: list[str]) -> None:
    parser.add_argument("folders", nargs="*", default=["runs"], help="runs, or folders of runs")
    parser.add_argument("--json", action="store_true", help="JSON instead of the table")
    arguments = parser.parse_args(args)
    folders = [Path(name) for name in arguments.folders]
    from define.training import Run

    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(f"{folder} is no folder: name those with runs in them.")
    found = {
        path.parent: None for folder in folders for path in sorted(folder.rglob("config.yaml"))
    }
    rows = [row for path in found if (row := _row(Run(path)))]
    if arguments.json:
        print(json.dumps(rows, indent=2))
    elif not rows:
        print(f"No runs in {', '.join(map(str, folders))}.")
    else:
        print(_table(rows))


def _row(run: "Run") -> dict[str, Any] | None:
    """What is known of a run; None where a folder has the configuration of something else."""
    recipe, settings = read_settings(run.config)
    if recipe is None:
        return None
    run.check(run.config)
    training = settings.get("training", {})
    validations, epochs = _validations(run.path), training.get("epochs")
    done = validations[-1][0] if validations else 0
    row = {"run": str(run.path), "recipe": recipe, "embedding": embedding_name(recipe, settings)}
    if run.summary.is_file():
        summary = summary_of(run)
        row |= {"embedding": summary.embedding, "state": "finished"}
        measured = {"valid": summary.valid_perplexity, "test": summary.test_perplexity}
        ended = done if training.get("patience") and done else epochs
        return {**row, "epoch": ended, "epochs": epochs, **measured}
    row["state"] = "stopped" if run.resumable and validations else "begun"
    if run.in_use:
        row["state"] = "training"
    row |= {"epoch": done, "epochs": epochs}
    return {**row, "valid": min((ppl for _, ppl in validations), default=None), "test": None}


def _validations(path: Path) -> list[tuple[int, float]]:
    """Epoch, from 1 on, and perplexity of each validation of all starts, as far as logged."""
    found = []
    for log in filter(Path.is_file, path.glob("logs/*/metrics.csv")):
        # What a kill left of a line is none.
        with log.open(encoding="utf-8", newline="") as file, suppress(ValueError, csv.Error):
            for line in csv.DictReader(file):
                if line.get("valid_perplexity") and line.get("epoch"):
                    found.append((int(line["epoch"]) + 1, float(line["valid_perplexity"])))
    return sorted(found)


def _table(rows: list[dict[str, Any]]) -> str:
    from define.measures.table import MISSING, text_table

    def number(value: float | None) -> str:
        return MISSING if value is None else f"{value:.2f}"

    cells = [
        (
            row["run"],
            row["recipe"],
            row["embedding"],
            row["state"],
            f"{row['epoch']} of {row['epochs']}",
            number(row["valid"]),
            number(row["test"]),
        )
        for row in rows
    ]
    head = ("run", "recipe", "embedding", "state", "epoch", "valid ppl", "test ppl")
    return text_table(head, cells)
