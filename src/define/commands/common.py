"""What the commands share: the arguments of recipes, the folders of runs, tables of them."""

from dataclasses import replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeGuard

    from jsonargparse import ArgumentParser, Namespace

    from define.measures import RunSummary
    from define.recipes import Experiment, TranslationExperiment
    from define.report import Subject
    from define.training import Run

TRANSLATION = ("multi30k", "wmt14")
RECIPES = (
    "pydocs",
    "penn-treebank",
    "penn-treebank-fast",
    "penn-treebank-finetune",
    "penn-treebank-small",
    "wikitext-2",
    "wikitext-2-transformer-xl",
    "wikitext-103",
    "wikitext-103-lstm",
    "wikipedia-25m",
    "text",
    *TRANSLATION,
)


def _recipe(name: str) -> "Callable[..., Experiment]":
    from define import recipes

    return getattr(recipes, name.replace("-", "_"))


def recipe_parser(name: str) -> "ArgumentParser":
    """The arguments of a recipe."""
    from jsonargparse import ArgumentParser

    recipe = _recipe(name)
    parser = ArgumentParser(description=(recipe.__doc__ or "").splitlines()[0])
    parser.add_function_arguments(recipe, sub_configs=True)
    return parser


def make_experiment(name: str, settings: "Namespace") -> "Experiment":
    """The experiment of a recipe with parsed arguments."""
    return _recipe(name)(**recipe_parser(name).instantiate(settings).as_dict())


def check_free(run: "Run", config: str) -> None:
    """Raises a ValueError if a run's folder holds other settings or a finished run."""
    if run.config.exists() and run.vocabulary.exists():  # else its training never began
        lines = run.config.read_text("utf-8").splitlines(), config.splitlines()
        for theirs, ours in zip_longest(*lines, fillvalue=""):
            if theirs != ours:
                raise ValueError(
                    f"{run.config} has other settings ({theirs.strip()!r} instead of "
                    f"{ours.strip()!r}): name another --run."
                )
        if run.summary.exists():
            raise ValueError(f"{run.path} is a finished run: name another --run.")


def open_run(folder: Path, data_path: Path | None = None) -> "tuple[Experiment, Run]":
    """A trained run and its experiment, with the run's own vocabulary."""
    from define.training import Run

    run = Run.open(folder)
    first, text = run.config.read_text("utf-8").split("\n", 1)
    name = first.removeprefix("# recipe: ")
    if name not in RECIPES:
        raise ValueError(f"{run.config} begins with {first!r} instead of the name of a recipe.")
    settings = recipe_parser(name).parse_string(text)
    if name in TRANSLATION:
        settings["data.tokenizer"] = run.path / "tokenizer.json"
    else:
        settings["data.vocabulary"] = run.vocabulary
    if data_path is not None:
        settings["data.path"] = data_path
    return make_experiment(name, settings), run


def translates(experiment: object) -> "TypeGuard[TranslationExperiment]":
    """Whether an experiment is one of translation, not of a language model."""
    from define.recipes.translation_experiment import TranslationExperiment

    return isinstance(experiment, TranslationExperiment)


def subject_of(folder: Path, data_path: Path | None, split: str) -> "Subject":
    """A trained run, to analyze: its embedding, and its model with the text of a split."""
    from define.data import Segments
    from define.report import Subject

    experiment, run = open_run(folder, data_path)
    if translates(experiment):
        raise ValueError(f"{run.path} is a run of a translation model, which is not analyzed yet.")
    summary = summary_of(run)
    run.load_weights(experiment.model)
    model, settings, corpus = experiment.model, experiment.training, experiment.data.open()
    batch_size, text = settings.evaluation_batch_size, corpus.split(split)
    return Subject(
        summary.name,
        summary.embedding,
        model.embedding,
        corpus.vocabulary.words,
        run.config.read_text("utf-8"),
        corpus.counts,
        summary,
        model,
        Segments(text, batch_size, settings.length, drop_last=False),
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
