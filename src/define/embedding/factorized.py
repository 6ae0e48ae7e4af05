"""What embeddings with a Map share: a narrow table, and a unit that computes rows from it."""

import copy
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Band, Embedding
from define.embedding.family import (
    approximate,
    arguments,
    as_bands,
    draw,
    made_rows,
    resize,
    row_cost,
    set_rows,
)
from define.embedding.nearest import nearest_inputs
from define.embedding.shared import in_chunks, snapshot
from define.embedding.tables import check_padding, check_part, check_sizes, table_size
from define.embedding.target import Target, balance, factorize
from define.groups import GroupLinear

__all__ = ["FactorizedEmbedding", "MakeMap"]

MakeMap = Callable[[int, int], nn.Module]


class FactorizedEmbedding(Embedding):
    """Base of embeddings that compute rows from those of a narrow table, the Map.

    A subclass draws a Map that it was given the width of at the end of its `__init__`, with
    :meth:`draw_own_map`: its other parameters come first in the sequence of random numbers.

    A `torch.nn.Embedding` that is given keeps its options. Look-ups, and `weight` too, shorten its
    rows by `max_norm` and `norm_type`; their gradient is sparse with `sparse`, and zero for its
    `padding_idx`. An output layer that reads the Map, or what is computed from it, takes rows as
    they are and gives that row a gradient, as a layer of torch does that is tied to it. Each
    distinct id is looked up once, so `scale_grad_by_freq` is refused.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        map: Width n of the Map table, an embedding module to use as Map, or what makes one from
            V and m.
        sparse: Whether the gradient of a Map table made here is sparse.
        std: Standard deviation of Map and output at initialization; that of a given `map` (or 1)
            if omitted.
        device: Device of a Map table made here.
        dtype: Type of a Map table made here.

    Attributes:
        map: The Map.
        map_dim: Its width n.

    Raises:
        ValueError: If a size is out of range, or a `map` is of another vocabulary or has
            `scale_grad_by_freq`.
        TypeError: If `map` is a module but no embedding.
    """

    map: nn.Module

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        map: int | nn.Module | MakeMap,
        sparse: bool = False,
        std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if callable(map) and not isinstance(map, nn.Module):
            map = map(num_embeddings, embedding_dim)
            map = map.to(device, dtype) if isinstance(map, nn.Module) else map
        if isinstance(map, nn.Module):
            size, width = table_size(map)
            if size != num_embeddings:
                raise ValueError(f"map.num_embeddings={size} must equal {num_embeddings=}.")
            check_part(map)
            std = cast(float, getattr(map, "std", 1.0)) if std is None else std
            module = map
        else:
            # True is the `freeze` of torch's from_pretrained, and would be a width of 1.
            if isinstance(map, bool) or not hasattr(map, "__index__"):
                raise TypeError(
                    f"{map=} must be a width (an integer), an embedding module, or what makes one."
                )
            width, num_embeddings = check_sizes(map=map, num_embeddings=num_embeddings)
            std = 1.0 if std is None else std
            module = nn.Embedding.from_pretrained(  # which draws nothing
                torch.empty(num_embeddings, width, device=device, dtype=dtype),
                freeze=False,
                padding_idx=check_padding(padding_idx, num_embeddings),
                sparse=sparse,
            )
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        self.map = module
        self.map_dim = width
        self.sparse = sparse
        self._given = isinstance(map, nn.Module)

    def draw_own_map(self) -> None:
        """Draws the Map, unless it was given: that is its owner's to draw."""
        if not self._given:
            draw(self.map, self.std)

    def arguments(self) -> dict[str, Any]:
        # A Map as it would be made here is its width.
        own = {"num_embeddings", "embedding_dim", "padding_idx", "sparse"}
        if type(self.map) is nn.Embedding and self.map.padding_idx == self.padding_idx:
            options = arguments(self.map)
            made = nn.Embedding(1, 1, device="meta")
            if all(options[name] == getattr(made, name) for name in options.keys() - own):
                return super().arguments() | {"map": self.map_dim, "sparse": self.map.sparse}
        return super().arguments() | {"map": self.map, "sparse": False}

    def tied_table(self) -> nn.Module:
        return self.map

    def map_bands(self) -> tuple[Band, ...] | None:
        return as_bands(self.map)

    def unit_parameters(self) -> list[nn.Parameter]:
        looked_up = set(self.map.parameters())
        return [p for p in self.parameters() if p not in looked_up]

    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        resize(self.map, num_embeddings, mean)

    @abstractmethod
    def from_map(self, e_i: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch features"]:
        """Rows of the embedding from those of the Map."""

    def unseen_from_map(self, e_i: Float[Tensor, "rows n"]) -> Float[Tensor, "rows features"]:
        """The same where its gradients alone are wanted: it may leave out the last product.

        It belongs to the :meth:`from_map` of the same class: a subclass overrides both, or the one.
        """
        return self.from_map(e_i)

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        return self.from_map(self.map(ids))

    def range_rows(self, start: int, stop: int) -> Float[Tensor, "rows features"]:
        twin = snapshot(self)

        def make(from_map: Callable[[Tensor], Tensor], ids: Tensor, e_i: Tensor) -> Tensor:
            return twin.without_padding(ids, from_map(e_i))

        # What leaves a product out is used where it belongs to the `from_map` in force.
        own = next(kind for kind in type(self).__mro__ if "from_map" in vars(kind))
        unseen = "unseen_from_map" in vars(own) and "from_map" not in vars(self)
        # The Map's rows as a whole: a look-up in each chunk would have a gradient of its size.
        e_i = made_rows(self.map, stop, start)
        return in_chunks(
            partial(make, twin.from_map),
            self._ids(stop, start),
            e_i,
            self.unit_parameters(),
            draws=self.draws(),
            numbers=self.numbers_per_row(),
            again=partial(make, twin.unseen_from_map if unseen else twin.from_map),
        )

    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        # In float64, from two starts: the present rows of the Map, and zeros.
        twin = copy.copy(self)
        twin._modules = {
            name: part if part is self.map else copy.deepcopy(part).double()
            for name, part in self._modules.items()
            if part is not None
        } | {name: None for name, part in self._modules.items() if part is None}
        wanted, start = rows.double(), self.map(ids).double()
        found = [nearest_inputs(twin.from_map, z, wanted) for z in (start, torch.zeros_like(start))]
        first, second = ((twin.from_map(z) - wanted).square().sum(1, True) for z in found)
        set_rows(self.map, ids, torch.where(first <= second, *found))

    def row_cost(self) -> int:
        map = set(self.map.modules())
        layers = [m for m in self.modules() if isinstance(m, GroupLinear) and m not in map]
        return sum(layer.multiply_adds for layer in layers) + row_cost(self.map)

    @torch.no_grad()
    def approximate_through(self, layer: GroupLinear, target: Target) -> None:
        r"""Sets Map and `layer` to the best linear factorization of a table.

        Args:
            layer: Linear layer with one group that ends in `embedding_dim`. It may read other
                features before those of the Map: their share is set to zero.
            target: The table.
        """
        left, right, mean = factorize(target, self.map_dim, centre=layer.bias is not None)
        scale = balance(left, target.weights, self.std)
        approximate(self.map, Target(left / scale, target.weights, target.chunk))
        layer.weight.zero_()
        layer.weight[0, :, -left.shape[1] :] = right * scale
        if layer.bias is not None:
            cast(Tensor, layer.bias).copy_(mean)
