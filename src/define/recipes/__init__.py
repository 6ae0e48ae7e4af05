"""Recipes: functions that return a whole experiment; the only place that picks numbers."""

from define.recipes.experiment import Experiment, evaluate, generate, train
from define.recipes.language import penn_treebank, pydocs, text, wikitext_2

__all__ = [
    "Experiment",
    "evaluate",
    "generate",
    "penn_treebank",
    "pydocs",
    "text",
    "train",
    "wikitext_2",
]
