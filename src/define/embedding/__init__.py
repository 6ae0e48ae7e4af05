"""Token embeddings: drop-ins for `torch.nn.Embedding` that need fewer parameters."""

from define.embedding.adaptive import AdaptiveEmbedding
from define.embedding.base import Embedding
from define.embedding.define import DeFINE
from define.embedding.projected import ProjectedEmbedding

__all__ = ["AdaptiveEmbedding", "DeFINE", "Embedding", "ProjectedEmbedding"]
