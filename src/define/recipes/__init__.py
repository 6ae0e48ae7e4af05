"""Recipes: functions that return a whole experiment; the only place that picks numbers."""

from define.recipes.language import pydocs, text
from define.recipes.penn_treebank import (
    penn_treebank,
    penn_treebank_fast,
    penn_treebank_finetune,
    penn_treebank_small,
)
from define.recipes.translation import multi30k, wmt14
from define.recipes.wikipedia import (
    wikipedia_25m,
    wikipedia_lstm_small,
    wikipedia_transformer_xl_small,
)
from define.recipes.wikitext import (
    wikitext_2,
    wikitext_2_transformer_xl,
    wikitext_103,
    wikitext_103_lstm,
)

__all__ = [
    "multi30k",
    "penn_treebank",
    "penn_treebank_fast",
    "penn_treebank_finetune",
    "penn_treebank_small",
    "pydocs",
    "text",
    "wikipedia_25m",
    "wikipedia_lstm_small",
    "wikipedia_transformer_xl_small",
    "wikitext_2",
    "wikitext_2_transformer_xl",
    "wikitext_103",
    "wikitext_103_lstm",
    "wmt14",
]
