"""Context models and the language model that joins embedding, context model and output layer."""

from define.models.backbone import Backbone
from define.models.language_model import LanguageModel, ParameterCounts
from define.models.lstm import LSTM
from define.models.transformer_xl import TransformerXL

__all__ = ["LSTM", "Backbone", "LanguageModel", "ParameterCounts", "TransformerXL"]
