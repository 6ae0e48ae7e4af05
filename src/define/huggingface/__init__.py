"""Embeddings of this package in the models of Hugging Face transformers.

Importing this makes `AutoModelFor….from_pretrained` know the checkpoints saved with them.
`DefineX` is the class of the model `X` of transformers: `DefineGPT2LMHeadModel`.
"""

import transformers

from define.huggingface.files import carry_files, check_tokenizer, write_readme
from define.huggingface.install import TiedHead, places_of
from define.huggingface.model import (
    DefineConfig,
    DefineModel,
    config_class,
    embedding_of,
    model_class,
)
from define.huggingface.onnx import export_onnx
from define.huggingface.replace import export, replace_embedding
from define.huggingface.tables import Table, find_tables

__all__ = [
    "DefineConfig",
    "DefineModel",
    "Table",
    "TiedHead",
    "carry_files",
    "check_tokenizer",
    "embedding_of",
    "export",
    "export_onnx",
    "find_tables",
    "model_class",
    "places_of",
    "replace_embedding",
    "write_readme",
]


def __getattr__(name: str) -> object:
    # The classes are made when asked for; pickle finds them here by name.
    base = getattr(transformers, name.removeprefix("Define"), None)
    if name.startswith("Define") and isinstance(base, type):
        if issubclass(base, transformers.PreTrainedModel):
            return model_class(base)
        if issubclass(base, transformers.PreTrainedConfig):
            return config_class(base)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
