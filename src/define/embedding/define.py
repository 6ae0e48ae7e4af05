"""DeFINE: deep factorized input token embeddings (Map, Expand, Reduce)."""

from collections.abc import Callable, Iterator, Sequence
from math import lcm
from typing import Any, Literal, cast, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Layer
from define.embedding.description import picklable
from define.embedding.factorized import FactorizedEmbedding, MakeMap
from define.embedding.family import draw
from define.embedding.shared import is_bare
from define.embedding.target import Target, least_squares
from define.embedding.tracing import is_traced
from define.embedding.unseen import unseen_linear
from define.groups import (
    SAMPLES,
    GroupLinear,
    HierarchicalGroupTransform,
    Skip,
    group_schedule,
    width_schedule,
)

__all__ = ["DeFINE", "Start"]

Start = Literal["random", "identity", "projection"]

_CHUNK = 1024  # rows computed at a time: larger blocks of memory are made anew by the system


class DeFINE(FactorizedEmbedding):
    r"""Learns token representations deep in a narrow table's space instead of in a wide table.

    .. math::
        e_i &= \mathrm{Map}(\mathrm{id}) \in \mathbb{R}^n \\
        \hat e_i &= \mathrm{Expand}(e_i) \in \mathbb{R}^k \\
        e_o &= \mathrm{Reduce}([\hat e_i, e_i]) \in \mathbb{R}^m

    Expand is a :class:`~define.groups.HierarchicalGroupTransform`, Reduce one linear map. With its
    path from the Map to Reduce, a plain linear factorization is a special case of the unit.

    Reference:
        | DeFINE, Sec. 3.1 (Map, Expand, Reduce), Sec. 3.2 (HGT), Sec. 3.3 (skip connection)

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        map: Width n of the Map table, an embedding module to use as Map, or what makes one from
            V and m: ``partial(AdaptiveEmbedding, cutoffs=[20_000, 40_000])``.
        expand_dim: Width k at the end of Expand.
        depth: Number N of Expand layers.
        max_groups: Number of groups of the first Expand layer, halved at each further one.
        groups: Groups of each layer in place of `depth` and `max_groups`: ``(1, 1, 1)`` is a
            linear stack, ``(4, 4, 4)`` a GLT.
        skip: How Expand reads e_i again at every layer; with ``"residual"`` all layers have width
            k / 2, as in the paper's ablation.
        shuffle: Whether features are interleaved across groups between layers.
        shared: Whether all groups of a layer share one matrix.
        reduce: Whether a linear map ends the unit. Without it Expand itself ends at
            `embedding_dim` with a linear layer, and `expand_dim` is not used.
        reduce_map: Whether Reduce reads e_i beside the end of Expand.
        activation: Makes the activation of Expand's layers.
        norm: Makes their normalization from a width, of each row by itself; none if omitted.
        dropout: Dropout probability after each layer of Expand; it falls on token types.
        start: How the unit starts: drawn at random; as the identity of the Map, where
            `embedding_dim` is its width; or as a random projection of it. In the latter two
            Expand's share of Reduce is zero: the embedding starts as a simpler one, and learns
            what its depth adds.
        sparse: Whether the gradient of a Map table made here is sparse.
        std: Standard deviation of Map and output at initialization; that of a given `map` (or 1)
            if omitted.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If sizes are out of range or do not fit together, such as groups that do not
            divide n or a `map` of another vocabulary.
        TypeError: If `activation` or `norm` is a module instead of making one.

    Example:
        >>> embedding = DeFINE(10_000, 400, map=128, depth=7, max_groups=128)
        >>> embedding(torch.tensor([[1, 5, 1]])).shape
        torch.Size([1, 3, 400])
        >>> table = embedding.to_embedding()  # once trained
        >>> table
        Embedding(10000, 400)
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        map: int | nn.Module | MakeMap = 128,
        expand_dim: int = 1024,
        depth: int = 3,
        max_groups: int = 16,
        groups: Sequence[int] | None = None,
        skip: Skip = "mix",
        shuffle: bool = False,
        shared: bool = False,
        reduce: bool = True,
        reduce_map: bool = True,
        activation: Callable[[], nn.Module] = nn.GELU,
        norm: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.0,
        start: Start = "random",
        sparse: bool = False,
        std: float | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(
            num_embeddings,
            embedding_dim,
            padding_idx,
            map=map,
            sparse=sparse,
            std=std,
            device=device,
            dtype=dtype,
        )
        self.expand_dim, self.depth, self.max_groups = expand_dim, depth, max_groups
        self.groups = None if groups is None else tuple(groups)
        self.skip, self.shuffle, self.shared = skip, shuffle, shared
        self.activation, self.norm = picklable(activation), picklable(norm)
        self.dropout = dropout
        if start not in get_args(Start):
            raise ValueError(f"{start=} must be one of {get_args(Start)}.")
        if start != "random" and not (reduce and reduce_map):
            raise ValueError(f"{start=} needs {reduce=} and {reduce_map=} to be true.")
        if start == "identity" and self.map_dim != self.embedding_dim:
            raise ValueError(
                f"{start=} needs embedding_dim={embedding_dim} to equal map={self.map_dim}."
            )
        self.start = start
        groups = group_schedule(depth, max_groups) if groups is None else tuple(groups)
        _check_groups(self.map_dim, groups, max_groups if self.groups is None else None)
        map_dim, std = self.map_dim, self.std
        expand_dim = expand_dim if reduce else embedding_dim
        if skip == "residual":
            widths = (expand_dim // 2 if reduce else expand_dim,) * len(groups)
        else:
            widths = width_schedule(map_dim, expand_dim, groups)
        self.expand = HierarchicalGroupTransform(
            map_dim,
            widths,
            groups,
            skip=skip,
            shuffle=shuffle,
            shared=shared,
            activation=activation,
            activate_last=reduce,
            norm=norm,
            dropout=dropout,
            std=std,
            device=device,
            dtype=dtype,
        )
        self.reduce_map = reduce and reduce_map
        reads = widths[-1] + map_dim * self.reduce_map
        self.reduce = (
            GroupLinear(reads, embedding_dim, device=device, dtype=dtype) if reduce else None
        )
        self.draw_own_map()
        self._reset_unit()

    def reset_parameters(self) -> None:
        """Draws all parameters; the output has mean 0 and deviation `self.std` at every depth.

        The paper does not say how. Where `start` is random, each layer is drawn so that its
        outputs for random Map vectors have that mean and deviation. One case is excepted: without
        Reduce, residual layers add up to more.
        """
        draw(self.map, self.std)
        self._reset_unit()

    @torch.no_grad()
    def _reset_unit(self) -> None:
        self.expand.std = self.std
        like = next(self.expand.parameters())
        if like.is_meta:
            return  # as in reset_parameters of Expand
        e_i = torch.randn(SAMPLES, self.map_dim, device=like.device, dtype=like.dtype) * self.std
        e_o = self.expand.standardize_parameters(e_i)
        if self.reduce is None:
            return
        if self.start == "random":
            self.reduce.standardize_parameters(self._reduce_reads(e_o, e_i), self.std)
            return
        for parameter in self.reduce.parameters():
            parameter.zero_()
        path = self.reduce.weight[0, :, -self.map_dim :]
        if self.start == "identity":
            nn.init.eye_(path)
        else:
            path.normal_(std=self.map_dim**-0.5)  # as a projected embedding is drawn

    def _reduce_reads(self, e_o: Tensor, e_i: Tensor) -> Tensor:
        return torch.cat([e_o, e_i], -1) if self.reduce_map else e_o

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        e_i = self.map(ids)
        whole = is_traced(ids) or ids.device.type != "cpu" or not is_bare(self)
        if whole or self.draws():  # by one draw for all rows
            return self.from_map(e_i)
        parts = [self.from_map(part) for part in e_i.split(_CHUNK)]
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    def from_map(self, e_i: Float[Tensor, "*batch n"]) -> Float[Tensor, "*batch features"]:
        e_o = self.expand(e_i)
        return e_o if self.reduce is None else self.reduce(self._reduce_reads(e_o, e_i))

    def unseen_from_map(self, e_i: Float[Tensor, "rows n"]) -> Float[Tensor, "rows features"]:
        e_o = self.expand(e_i)
        if self.reduce is None:
            return e_o
        return unseen_linear(self.reduce, self._reduce_reads(e_o, e_i))

    def arguments(self) -> dict[str, Any]:
        return super().arguments() | {"reduce": self.reduce is not None}

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets the embedding to the best linear factorization of a table that it can stand for.

        Expand is drawn anew over the rows of the Map, and its share in Reduce is zero: the unit
        then equals its path from the Map. Without that path Reduce is the least-squares map from
        the end of Expand; without Reduce only the Map is set, and the start is poor.
        """
        path = self.reduce
        if path is None:
            # Without bias: what is not centred.
            path = GroupLinear(self.map_dim, self.embedding_dim, bias=False).to(target.table)
        elif not self.reduce_map:
            path = GroupLinear(self.map_dim, self.embedding_dim).to(target.table)
        self.approximate_through(path, target)
        # Features that vary over the rows that there are, rather than over random ones.
        probability = target.weights.double() / target.weights.sum()
        ids = torch.multinomial(probability, min(4096, int((probability > 0).sum())))
        if len(ids) > 1:  # a single row has no deviation
            self.expand.standardize_parameters(self.map(ids.sort().values))
        if self.reduce is not None and not self.reduce_map:
            self.solve(target)

    @torch.no_grad()
    def solve(self, target: Target) -> bool:
        """Sets Reduce to the weighted least-squares map from what it reads to the table."""
        if self.reduce is None:
            return False

        def reads(ids: Tensor) -> Tensor:
            e_i = self.map(ids)
            return self._reduce_reads(self.expand(e_i), e_i)

        solution = least_squares(target, reads)
        if solution is not None:
            self.reduce.weight[0] = solution[0]
            cast(Tensor, self.reduce.bias).copy_(solution[1])
        return True

    def solved_parameters(self) -> list[nn.Parameter]:
        return [] if self.reduce is None else [cast(nn.Parameter, self.reduce.bias)]

    def layers(self) -> tuple[Layer, ...]:
        expand = zip(self.expand.groups, self.expand.widths, strict=True)
        layers = [Layer(f"Expand {i}", *layer) for i, layer in enumerate(expand, 1)]
        if self.reduce is not None:
            layers.append(Layer("Reduce", 1, self.embedding_dim))
        return Layer("Map", 1, self.map_dim), *layers

    def layer_outputs(self, ids: Int[Tensor, " rows"]) -> Iterator[Float[Tensor, "rows width"]]:
        e_i = self.map(ids)
        yield e_i
        *inner, e_o = self.expand.outputs(e_i)
        yield from inner
        if self.reduce is not None:
            yield e_o
            e_o = self.reduce(self._reduce_reads(e_o, e_i))
        yield self.without_padding(ids, e_o)


def _check_groups(map_dim: int, groups: Sequence[int], max_groups: int | None) -> None:
    """Checks that the groups divide the width of the Map.

    All do so, not the first alone: later layers mix it in, and their widths are multiples of both.

    Raises:
        ValueError: If one does not; it names the nearest sizes that would fit.
    """
    if min(groups, default=0) < 1 or all(map_dim % g == 0 for g in groups):
        return
    step = lcm(*groups)
    fitting = [f"map={width}" for width in (map_dim // step * step, -(-map_dim // step) * step)]
    fitting = [name for name in fitting if name != "map=0"]
    if max_groups is not None:
        fewer = max(g for g in range(1, max_groups) if _fits(map_dim, g, len(groups)))
        fitting.append(f"max_groups={fewer}")
    raise ValueError(
        f"The groups of Expand's layers, {tuple(groups)}, must each divide the width of the Map, "
        f"map={map_dim}; {' or '.join(fitting)} would fit."
    )


def _fits(map_dim: int, max_groups: int, depth: int) -> bool:
    return all(map_dim % g == 0 for g in group_schedule(depth, max_groups))
