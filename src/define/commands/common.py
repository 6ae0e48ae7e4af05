"""What the commands share: runs to analyze, tables of runs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from define.measures import RunSummary
    from define.report import Subject
    from define.training import Run


def subject_of(folder: Path, data_path: Path | None, split: str) -> "Subject":
    """A trained run, to analyze: its embedding, and its model with the text of a split."""
    from define.recipes.settings import open_run
    from define.report import Subject
    from define.training import LanguageModelExperiment

    experiment, run = open_run(folder, data_path)
    if not isinstance(experiment, LanguageModelExperiment):
        raise ValueError(f"{run.path} is a run of a translation model, which is not analyzed yet.")
    summary = summary_of(run)
    model, corpus = experiment.model, experiment.corpus
    return Subject(
        summary.name,
        summary.embedding,
        model.embedding,
        corpus.vocabulary.words,
        run.config.read_text("utf-8"),
        corpus.counts,
        summary,
        model,
        experiment.segments(split),
    )


def summary_of(run: "Run") -> "RunSummary":
    """What a finished run found out."""
    import yaml  # of jsonargparse

    from define.measures import RunSummary

    config = run.config.read_text("utf-8")
    seedless = "\n".join(x for x in config.splitlines() if not x.startswith("seed:"))
    validations = yaml.safe_load(config).get("training", {}).get("validations")
    summary = RunSummary.from_json(run.summary)
    return replace(summary, settings=seedless, validations=validations)


def table_of(summaries: "list[RunSummary]", average_seeds: bool = False) -> str:
    """Runs side by side, with BLEU where they translate."""
    from define.measures import comparison_table
    from define.measures.table import text_table

    text = comparison_table(summaries, average_seeds)
    scored = [run for run in summaries if run.test_bleu is not None]
    if scored:
        scores = ([run.name, f"{run.valid_bleu:.2f}", f"{run.test_bleu:.2f}"] for run in scored)
        text += "\n\n" + text_table(("run", "valid BLEU", "test BLEU"), scores)
    return text
