"""What the commands share of runs."""

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from define.readers import read_text
from define.untrusted import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from define.measures import RunSummary
    from define.training import Run

logger = logging.getLogger("define")

_OWN = {
    "text": "ProjectedEmbedding",
    "wikipedia-lstm-small": "AdaptiveEmbedding",
    "wikipedia-transformer-xl-small": "AdaptiveEmbedding",
}
"""What recipes make whose settings name no embedding; others make a DeFINE."""


def embedding_name(recipe: str, settings: "Mapping[str, Any]") -> str:
    """Name of the embedding that a recipe's settings make."""
    chosen = settings.get("embedding")
    if settings.get("unit"):
        return "DeFINE"
    if not chosen:
        without_unit = "unit" in settings  # of version 0.1, null
        return "AdaptiveEmbedding" if without_unit else _OWN.get(recipe, "DeFINE")
    return str(chosen.get("class_path") if isinstance(chosen, dict) else chosen).rpartition(".")[2]


def summary_of(run: "Run") -> "RunSummary":
    """What a finished run found out."""
    from define.measures import RunSummary

    config = read_text(run.config)
    seedless = "\n".join(x for x in config.splitlines() if not x.startswith("seed:"))
    training = read_settings(run.config)[1].get("training", {})
    epochs = None if training.get("patience") else training.get("epochs")  # all of them, or fewer
    run.check(run.summary)
    summary = RunSummary.from_json(run.summary)
    validations = training.get("validations")
    return replace(summary, settings=seedless, validations=validations, epochs=epochs)


def warn_of_differences(names: "Sequence[str]", **marks: "Sequence[str]") -> None:
    """Says of which runs perplexities do not compare.

    Args:
        names: Of the runs.
        marks: What has to be the same of all, by its name in the plural; "" where it is unknown.
            Only the first of those that differ is said: another vocabulary makes other ids of the
            same text.
    """
    for what, found in marks.items():
        known = dict.fromkeys(mark for mark in found if mark)
        if len(known) > 1:
            pairs = list(zip(names, found, strict=True))
            logger.warning(
                "These runs are of %d %s, so their perplexities do not compare: %s.",
                *(len(known), what),
                " | ".join(", ".join(n for n, mark in pairs if mark == k) for k in known),
            )
            return
