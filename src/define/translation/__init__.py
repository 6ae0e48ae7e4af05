"""Translation: parallel text, its batches, the model, its training, BLEU.

The model needs transformers, and is imported where one is made: `define.translation.model`.
"""

from define.translation.bleu import bleu
from define.translation.experiment import TranslationEvaluation, TranslationExperiment
from define.translation.parallel import ParallelCorpus, ParallelText, Sentences
from define.translation.token_batches import TokenBatches

__all__ = [
    "ParallelCorpus",
    "ParallelText",
    "Sentences",
    "TokenBatches",
    "TranslationEvaluation",
    "TranslationExperiment",
    "bleu",
]
