"""DeFINE: deep factorized token embeddings, and the models around them.

Mehta, Koncel-Kedziorski, Rastegari, Hajishirzi, "DeFINE: DEep Factorized INput Token Embeddings
for Neural Sequence Modeling", ICLR 2020.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from define.compression import fit_embedding
    from define.embedding import (
        AdaptiveEmbedding,
        BandedEmbedding,
        DeFINE,
        Embedding,
        HashEmbedding,
        ProjectedEmbedding,
        RoundedEmbedding,
        parameter_groups,
        start_from_text,
    )
    from define.groups import (
        GroupLinear,
        HierarchicalGroupTransform,
        group_schedule,
        width_schedule,
    )
    from define.models import LSTM, Backbone, LanguageModel, TransformerXL
    from define.recipes.loaded import load
    from define.softmax import (
        AdaptiveSoftmax,
        AdaptiveSoftmaxCost,
        OutputLayer,
        Softmax,
        TiedSoftmax,
        choose_cutoffs,
    )

__version__ = "0.2.0.dev0"

__all__ = [
    "LSTM",
    "AdaptiveEmbedding",
    "AdaptiveSoftmax",
    "AdaptiveSoftmaxCost",
    "Backbone",
    "BandedEmbedding",
    "DeFINE",
    "Embedding",
    "GroupLinear",
    "HashEmbedding",
    "HierarchicalGroupTransform",
    "LanguageModel",
    "OutputLayer",
    "ProjectedEmbedding",
    "RoundedEmbedding",
    "Softmax",
    "TiedSoftmax",
    "TransformerXL",
    "choose_cutoffs",
    "fit_embedding",
    "group_schedule",
    "load",
    "parameter_groups",
    "start_from_text",
    "width_schedule",
]


def __getattr__(name: str) -> object:
    # Parts are imported when first asked for: the command line's help then needs no torch.
    if name in __all__:
        for part in ("groups", "embedding", "softmax", "models", "compression", "recipes.loaded"):
            module = import_module(f"define.{part}")
            if name in module.__all__:
                globals()[name] = found = getattr(module, name)
                return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
