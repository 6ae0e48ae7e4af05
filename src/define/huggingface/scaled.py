"""An embedding whose rows are scaled where they enter the model, as Gemma's are."""

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import table_size

__all__ = ["ScaledEmbedding", "unscaled"]


class ScaledEmbedding(nn.Module):
    r"""Scales the rows of an embedding on their way into the model; the output is not scaled.

    The scale is a number, not a buffer: `from_pretrained` gives non-persistent buffers back with
    whatever the memory holds.

    Args:
        embedding: The embedding.
        scale: The factor.

    Shape:
        (\*batch) ids → (\*batch, embedding_dim).
    """

    def __init__(self, embedding: nn.Module, scale: float) -> None:
        super().__init__()
        self.embedding = embedding
        self.scale = scale

    @property
    def num_embeddings(self) -> int:
        """Size V of the vocabulary."""
        return table_size(self.embedding)[0]

    @property
    def embedding_dim(self) -> int:
        """Width m of the output."""
        return table_size(self.embedding)[1]

    @property
    def padding_idx(self) -> int | None:
        """Id whose row is zero."""
        return cast(int | None, self.embedding.padding_idx)

    @property
    def weight(self) -> Float[Tensor, "num_embeddings features"]:
        """The table as it is stored, without the scale, as in Gemma."""
        return cast(Tensor, self.embedding.weight)

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch features"]:
        rows = self.embedding(ids)
        # In the type of the rows: a factor rounded differently would not be the original's.
        return rows * rows.new_full((), self.scale)

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}"


def unscaled(embedding: nn.Module) -> nn.Module:
    """The embedding itself, whatever the model puts around it."""
    return embedding.embedding if isinstance(embedding, ScaledEmbedding) else embedding
