"""An embedding in a second place, without a second name for its parameters."""

from typing import cast

from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import table_size
from define.softmax.base import Tied

__all__ = ["BorrowedEmbedding"]


class BorrowedEmbedding(nn.Module):
    r"""Looks up in an embedding that belongs to another part of the model.

    Encoder and decoder share one table. transformers ties tables by giving one parameter several
    names, and on tying cuts every bias beside a tied weight to that weight's first dimension,
    which in a group linear layer is the number of groups. With one owner nothing is tied.

    Args:
        embedding: The embedding; its parameters stay where they are.

    Shape:
        (\*batch) ids → (\*batch, embedding_dim).
    """

    def __init__(self, embedding: nn.Module) -> None:
        super().__init__()
        self.tied = Tied(embedding)

    @property
    def num_embeddings(self) -> int:
        """Size V of the vocabulary."""
        return table_size(self.tied.module)[0]

    @property
    def embedding_dim(self) -> int:
        """Width m of the output."""
        return table_size(self.tied.module)[1]

    @property
    def padding_idx(self) -> int | None:
        """Id whose row is zero."""
        return cast(int | None, self.tied.module.padding_idx)

    @property
    def weight(self) -> Float[Tensor, "num_embeddings features"]:
        """The whole table."""
        return self.tied.weight

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch features"]:
        return self.tied.module(ids)

    def extra_repr(self) -> str:
        return f"{self.num_embeddings}, {self.embedding_dim}"
