"""Text as tensors: vocabularies, corpora of ids, batches for truncated backpropagation."""

from define.data.corpus import SPLITS, Corpus, Statistics
from define.data.pydocs import PyDocs
from define.data.segments import Segments
from define.data.subwords import Subwords
from define.data.text import Text
from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary

__all__ = [
    "END_OF_LINE",
    "SPLITS",
    "UNKNOWN",
    "Corpus",
    "PyDocs",
    "Segments",
    "Statistics",
    "Subwords",
    "Text",
    "Vocabulary",
]
