"""The contract of output layers."""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding import made_rows
from define.embedding.contract import check_ids
from define.embedding.tables import check_sizes, table_size
from define.embedding.tracing import is_transformed
from define.softmax.chunked import IGNORED

__all__ = ["OutputLayer"]


class OutputLayer(nn.Module, ABC):
    r"""Base of output layers over a vocabulary of `num_classes` words.

    Calling the layer gives the negative log-likelihood of each target and never holds the logits
    of a whole batch. Subclasses work on flat rows; the base takes any leading dimensions.

    `log_prob` and `predict` are those of `torch.nn.AdaptiveLogSoftmaxWithLoss`. A call is not: it
    gives losses, one for each target, where that layer gives log-probabilities and their mean loss.

    Args:
        in_features: Width of the hidden states.
        num_classes: Size V of the vocabulary.
        ignore_index: Target without loss and gradient; its negative log-likelihood is 0.

    Raises:
        ValueError: If a size is below 1.

    Shape:
        hidden (\*batch, in_features), targets (\*batch) int64 or int32 → (\*batch).
    """

    def __init__(self, in_features: int, num_classes: int, ignore_index: int = -100) -> None:
        super().__init__()
        in_features, num_classes = check_sizes(in_features=in_features, num_classes=num_classes)
        self.in_features = in_features
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    @abstractmethod
    def rows_nll(
        self, hidden: Float[Tensor, "rows in"], targets: Int[Tensor, " rows"]
    ) -> Float[Tensor, " rows"]:
        """Negative log-likelihoods of targets that are classes or `IGNORED`."""

    @abstractmethod
    def rows_log_prob(self, hidden: Float[Tensor, "rows in"]) -> Float[Tensor, "rows classes"]:
        """Log-probabilities of all classes."""

    @abstractmethod
    def rows_topk(self, hidden: Float[Tensor, "rows in"], k: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities and ids of the `k` likeliest classes, both (rows, k)."""

    def forward(
        self, hidden: Float[Tensor, "*batch in"], targets: Int[Tensor, "*batch"]
    ) -> Float[Tensor, "*batch"]:
        """Negative log-likelihood of each target, in natural logarithms (nats).

        Raises:
            ValueError: If shapes do not fit, or a tied embedding was resized.
            TypeError: If `targets` is not int64 or int32.
            IndexError: If a target is neither a class nor `ignore_index` (checked on CPU only, not
                under `torch.func`).
        """
        rows = self._rows(hidden)
        check_ids(targets, "targets")
        if targets.shape != hidden.shape[:-1]:
            raise ValueError(
                f"targets {tuple(targets.shape)} must have the leading dimensions of "
                f"hidden {tuple(hidden.shape)}."
            )
        flat = targets.flatten().long()
        if flat.device.type == "cpu" and not is_transformed():
            wrong = ((flat < 0) | (flat >= self.num_classes)) & (flat != self.ignore_index)
            if wrong.any():
                num_classes = self.num_classes
                raise IndexError(f"target {flat[wrong][0].item()} is not within {num_classes=}.")
        # One mark for all subclasses, which number classes anew within bands.
        flat = flat.masked_fill(flat == self.ignore_index, IGNORED)
        return self.rows_nll(rows, flat).view(targets.shape)

    def log_prob(self, hidden: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch classes"]:
        """Log-probabilities of all classes, (..., V): large for a large vocabulary."""
        rows = self.rows_log_prob(self._rows(hidden))
        return rows.view(*hidden.shape[:-1], self.num_classes)

    @torch.no_grad()
    def topk(self, hidden: Float[Tensor, "*batch in"], k: int) -> tuple[Tensor, Tensor]:
        """Log-probabilities and ids of the `k` likeliest classes, in descending order: exact.

        Raises:
            ValueError: If `k` is not within 1 … V.
        """
        if not 1 <= k <= self.num_classes:
            raise ValueError(f"{k=} must be within 1 and num_classes={self.num_classes}.")
        values, ids = self.rows_topk(self._rows(hidden), k)
        shape = (*hidden.shape[:-1], k)
        return values.view(shape), ids.view(shape)

    def predict(self, hidden: Float[Tensor, "*batch in"]) -> Int[Tensor, "*batch"]:
        """Id of the likeliest class."""
        return self.topk(hidden, 1)[1].squeeze(-1)

    def _rows(self, hidden: Tensor) -> Tensor:
        if hidden.shape[-1] != self.in_features:
            in_features = self.in_features
            raise ValueError(
                f"Last dimension of hidden {tuple(hidden.shape)} must be {in_features=}."
            )
        tied = getattr(self, "tied", None)
        if tied is not None:
            tied.check(self.num_classes)
        return hidden.reshape(-1, self.in_features)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, num_classes={self.num_classes}"


class Tied:
    """Holds the embedding that an output layer shares its table with, without owning it.

    A module kept as an attribute would be registered, and its parameters would appear twice in
    `state_dict`. They belong to the embedding alone; `copy.deepcopy` of a model that holds both
    keeps them tied.
    """

    def __init__(self, module: nn.Module) -> None:
        self.module = module

    def check(self, num_classes: int) -> None:
        """Raises ValueError if the embedding was resized since the layer was made."""
        num_embeddings, _ = table_size(self.module)
        if num_embeddings != num_classes:
            raise ValueError(
                f"The tied {type(self.module).__name__} has {num_embeddings=}, which must equal "
                f"{num_classes=}: an output layer is made anew once its embedding is resized."
            )

    @property
    def weight(self) -> Tensor:
        """The table; rows that are computed are those that look-ups of a step read too."""
        return made_rows(self.module)


def own_projection(
    in_features: int, map_dim: int, device: torch.device | str | None, dtype: torch.dtype | None
) -> nn.Module:
    """The output layer's own map in_features → n, where the widths differ."""
    if in_features == map_dim:
        return nn.Identity()
    projection = nn.Linear(in_features, map_dim, bias=False, device=device, dtype=dtype)
    reset_projection(projection)
    return projection


@torch.no_grad()
def reset_projection(projection: nn.Module) -> None:
    """Draws what `own_projection` made so that it keeps the norm of hidden states.

    Logits then start at the scale that they have with a table as wide as the hidden states, as
    with the tied projections of adaptive tables. Drawn as torch draws a linear layer they are
    smaller by the square root of 3 m / n, and narrow tables learn more slowly.
    """
    if isinstance(projection, nn.Linear):
        projection.weight.normal_(std=projection.out_features**-0.5)
