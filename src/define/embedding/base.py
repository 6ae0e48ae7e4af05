"""What embeddings share: the contract of `torch.nn.Embedding`, computed once per distinct id."""

from abc import ABC, abstractmethod
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

__all__ = ["Embedding", "map_module", "reset_map", "table_size"]

_CHUNK = 8192  # rows of the whole table computed at a time: 32 MB at 1024 features


class Embedding(nn.Module, ABC):
    r"""Base of embeddings whose rows are computed instead of stored.

    A subclass says what the rows of given ids are (:meth:`rows`); a row must depend on its id
    alone. The base looks ids up as `torch.nn.Embedding` does, but computes each distinct id of a
    batch only once (Sec. 3.4: neither Map nor unit depends on the neighbours of a token). Dropout
    inside the unit therefore falls on token types: all occurrences in a batch share one mask.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        std: Standard deviation of the output at initialization; `torch.nn.Embedding` has 1.

    Raises:
        ValueError: If a size or `padding_idx` is out of range.

    Shape:
        (\*batch) ids, int64 or int32 → (\*batch, embedding_dim).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        std: float = 1.0,
    ) -> None:
        super().__init__()
        if num_embeddings < 1 or embedding_dim < 1:
            raise ValueError(f"{num_embeddings=} and {embedding_dim=} must be at least 1.")
        if not std > 0:  # NaN too
            raise ValueError(f"{std=} must be above 0.")
        self.num_embeddings = num_embeddings
        self.embedding_dim = embedding_dim
        self.padding_idx = _check_padding(padding_idx, num_embeddings)
        self.std = std

    @abstractmethod
    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        """Rows of the table for valid ids in ascending order; padding is the base's matter."""

    @abstractmethod
    def reset_parameters(self) -> None:
        """Draws all parameters anew."""

    def forward(self, ids: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch features"]:
        """Looks up the rows of `ids`.

        Raises:
            TypeError: If `ids` is not int64 or int32.
            IndexError: If an id is outside of the vocabulary (on a GPU, where the check would
                stall the queue, by the device's own assertion).
        """
        if ids.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"ids must be int64 or int32, not {ids.dtype}.")
        distinct, positions = torch.unique(ids, return_inverse=True)
        if distinct.device.type == "cpu" and len(distinct):  # sorted: the ends tell it all
            for id_ in (distinct[0].item(), distinct[-1].item()):
                if not 0 <= id_ < self.num_embeddings:
                    raise IndexError(f"id {id_} is not within {self.num_embeddings=}.")
        return F.embedding(positions, self._padded_rows(distinct))

    def _padded_rows(self, ids: Tensor) -> Tensor:
        rows = self.rows(ids)
        if self.padding_idx is not None:
            rows = rows.masked_fill((ids == self.padding_idx)[:, None], 0.0)
        return rows

    @property
    def weight(self) -> Float[Tensor, "num_embeddings features"]:
        """The whole table (num_embeddings, embedding_dim), computed anew, without dropout.

        Gradients flow where they are enabled; under `torch.no_grad` memory stays at the table's.
        """
        modes = [(module, module.training) for module in self.modules()]
        try:
            self.eval()
            ids = torch.arange(self.num_embeddings, device=next(self.parameters()).device)
            return torch.cat([self._padded_rows(chunk) for chunk in ids.split(_CHUNK)])
        finally:
            for module, mode in modes:
                module.training = mode

    @torch.no_grad()
    def to_embedding(self) -> nn.Embedding:
        """The trained table as a plain `torch.nn.Embedding`: inference costs one look-up."""
        return nn.Embedding.from_pretrained(self.weight, freeze=False, padding_idx=self.padding_idx)

    def extra_repr(self) -> str:
        text = f"{self.num_embeddings}, {self.embedding_dim}"
        return text if self.padding_idx is None else f"{text}, padding_idx={self.padding_idx}"


def table_size(map: nn.Module) -> tuple[int, int]:
    """Number of rows and width of a Map: of `torch.nn.Embedding` or any of this package.

    Raises:
        TypeError: If it is no embedding.
    """
    if not (hasattr(map, "num_embeddings") and hasattr(map, "embedding_dim")):
        raise TypeError(f"{map=} must be an embedding: torch.nn.Embedding or one of this package.")
    return cast(int, map.num_embeddings), cast(int, map.embedding_dim)


def _check_padding(padding_idx: int | None, num_embeddings: int) -> int | None:
    """The padding id counted from the front."""
    if padding_idx is None:
        return None
    if not -num_embeddings <= padding_idx < num_embeddings:
        raise ValueError(f"{padding_idx=} must be within {num_embeddings=}.")
    return padding_idx % num_embeddings


def map_module(
    map: int | nn.Module,
    num_embeddings: int,
    *,
    padding_idx: int | None,
    sparse: bool,
    std: float | None,
    device: torch.device | str | None,
    dtype: torch.dtype | None,
) -> tuple[nn.Module, int, float]:
    """The Map of a factorized embedding with its width and its deviation at initialization.

    A width makes a table of that width (not yet drawn); a module is taken as it is.
    """
    if isinstance(map, nn.Module):
        size, width = table_size(map)
        if size != num_embeddings:
            raise ValueError(f"map.num_embeddings={size} must equal {num_embeddings=}.")
        return map, width, cast(float, getattr(map, "std", 1.0)) if std is None else std
    if map < 1 or num_embeddings < 1:
        raise ValueError(f"{map=} and {num_embeddings=} must be at least 1.")
    padding_idx = _check_padding(padding_idx, num_embeddings)
    weight = torch.empty(num_embeddings, map, device=device, dtype=dtype)
    table = nn.Embedding.from_pretrained(
        weight, freeze=False, padding_idx=padding_idx, sparse=sparse
    )
    return table, map, 1.0 if std is None else std


@torch.no_grad()
def reset_map(map: nn.Module, std: float) -> None:
    """Draws a Map anew, with entries of deviation `std`."""
    if isinstance(map, nn.Embedding):
        map.weight.normal_(std=std)
        if map.padding_idx is not None:
            map.weight[map.padding_idx].zero_()
    else:
        map = cast(Embedding, map)
        map.std = std
        map.reset_parameters()
