"""What the commands share of runs."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from define.readers import read_text
from define.untrusted import read_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from define.measures import RunSummary
    from define.training import Run


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
    validations = read_settings(run.config)[1].get("training", {}).get("validations")
    run.check(run.summary)
    summary = RunSummary.from_json(run.summary)
    return replace(summary, settings=seedless, validations=validations)
