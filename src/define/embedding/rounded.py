"""Rounded embedding: rows kept in a few bits a number, more for rows that matter more."""

from collections.abc import Sequence
from functools import lru_cache
from math import ceil
from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding
from define.embedding.packing import column_bits, pack, packed_width, unpack
from define.embedding.target import Target, factorize

__all__ = ["RoundedEmbedding"]

# Steps of the uniform quantizers of 1 to 8 bits that are best for a Gaussian of deviation 1 (Max
# 1960, Table II, continued), over those with which equally frequent codes have deviation 1.
_SPREAD = (0.798, 1.113, 1.343, 1.545, 1.737, 1.923, 2.102, 2.276)
_TRIES = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.15, 1.3, 1.5, 1.75, 2.1, 2.6, 3.2)  # of a row's scale
_BLOCK = 128  # ids of which one count is kept for each class
_ONE = 0x3C00  # 1 in float16


@lru_cache(maxsize=256)
def _levels(
    bits: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor]:
    """Of the columns with bits: which, the highest code, and the step for a deviation of 1."""
    used = [column for column, number in enumerate(bits) if number]
    levels = torch.tensor([2.0 ** bits[column] - 1 for column in used], device=device)
    step = (levels * (levels + 2) / 12).rsqrt()  # as deviations are of equally frequent codes
    return torch.tensor(used, dtype=torch.int64, device=device), levels.to(dtype), step.to(dtype)


class RoundedEmbedding(Embedding):
    r"""Keeps rows as whole numbers of a few bits, with a scale for each row.

    .. math:: e_i = R \, (s_i \, d_{c(i)} \odot q_i) + \mu

    q_i are codes of as many bits as the class c(i) of the row has for each group of columns, in
    levels that are symmetric about zero (with one bit, ± one half); s_i is a 16-bit scale, d one
    number for each class and group. R, a matrix with orthonormal columns that is rounded itself,
    and µ are there with `rotate`: in the axes of a table's principal components a few columns hold
    most of it, and rare words need bits in those alone. All codes are packed in bytes, in memory
    as in a file, and only the rows that are asked for are unpacked.

    Rows are set from a trained table (:meth:`from_pretrained`, :meth:`approximate`); what is left
    to train is d and µ. As the Map of a :class:`DeFINE` it gives the unit a table of few bytes.

    Reference:
        | Block Transform Coding (Huang & Schultheiss 1963): bits by variance in principal axes
        | Quantizing for Minimum Distortion (Max 1960): the levels

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the output.
        padding_idx: Id whose row is zero and never trained.
        bits: Bits of a number, 0 to 8: one for all, or for each class of rows one for each group
            of columns.
        sizes: Number of rows of each class, V in all; may be omitted if there is one. Ids are of
            the classes in this order until :meth:`assign` says otherwise.
        group_size: Columns that have one number of bits.
        scale_size: Columns that share one of a row's scales; all of them if omitted.
        rotate: Whether columns are coordinates in axes of its own.
        axis_bits: Bits of a number of R.
        std: Standard deviation of the output at initialization.
        device: Device of the parameters.
        dtype: Type of the parameters and of the rows.

    Raises:
        ValueError: If a size is out of range, or `bits` and `sizes` do not fit together.

    Example:
        >>> table = torch.randn(1000, 64)
        >>> embedding = RoundedEmbedding.from_pretrained(table, bits=4)
        >>> embedding
        RoundedEmbedding(1000, 64, bits=4)
        >>> sum(t.nbytes for t in embedding.state_dict().values()) / (4 * table.numel())
        0.1328...
        >>> float((embedding.weight.detach() - table).square().sum() / table.square().sum()) < 0.015
        True
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        *,
        bits: int | Sequence[Sequence[int]] = 4,
        sizes: Sequence[int] | None = None,
        group_size: int = 32,
        scale_size: int | None = None,
        rotate: bool = False,
        axis_bits: int = 8,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        num_embeddings, embedding_dim = self.num_embeddings, self.embedding_dim
        if group_size < 1 or (scale_size is not None and scale_size < 1):
            raise ValueError(f"{group_size=} and {scale_size=} must be at least 1.")
        self.bits = bits if isinstance(bits, int) else tuple(tuple(each) for each in bits)
        self.sizes = None if sizes is None else tuple(sizes)
        self.group_size, self.scale_size = group_size, scale_size
        self.rotate, self.axis_bits = rotate, axis_bits
        groups = ceil(embedding_dim / group_size)
        table = ((bits,) * groups,) if isinstance(bits, int) else cast(tuple, self.bits)
        if not table or any(len(row) != groups for row in table):
            raise ValueError(f"{bits=} must be a number, or {groups} for each class of rows.")
        if not all(0 <= number <= 8 for row in table for number in row):
            raise ValueError(f"{bits=} must be 0 to 8.")
        counts = (num_embeddings,) if self.sizes is None else self.sizes
        if len(counts) != len(table) or min(counts) < 0 or sum(counts) != num_embeddings:
            raise ValueError(f"{sizes=} must be {len(table)} numbers, {num_embeddings=} in all.")

        # Axes that no row has bits for are not kept.
        used = [g for g in range(groups) if any(row[g] for row in table)]
        columns = min((max(used, default=0) + 1) * group_size, embedding_dim)
        self.columns = columns if rotate else embedding_dim
        self._bits = tuple(column_bits(row, group_size, self.columns) for row in table)
        like = {"device": device, "dtype": dtype}
        self.deviations = nn.Parameter(torch.empty(len(table), groups, **like))
        for k, (size, bits_) in enumerate(zip(counts, self._bits, strict=True)):
            scales = ceil(self.columns / (scale_size or self.columns)) if any(bits_) else 0
            codes = torch.empty(size, packed_width(bits_), dtype=torch.uint8, device=device)
            # The bits of 16-bit numbers: `to(dtype)` must not make them wider.
            halves = torch.empty(size, scales, dtype=torch.int16, device=device)
            self.register_buffer(f"codes_{k}", codes)
            self.register_buffer(f"scales_{k}", halves)
        if len(table) > 1:
            blocks = ceil(num_embeddings / _BLOCK)
            classes = torch.empty(num_embeddings, dtype=torch.uint8, device=device)
            before = torch.empty(blocks, len(table), dtype=torch.int32, device=device)
            self.register_buffer("classes", classes)
            self.register_buffer("before", before)
        if rotate:
            self.axes = RoundedEmbedding(
                self.columns, embedding_dim, bits=axis_bits, scale_size=None, **like
            )
            self.mean = nn.Parameter(torch.empty(embedding_dim, **like))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.deviations.fill_(self.std)
        if self.rotate:
            self.axes.std = self.columns**-0.5
            self.axes.reset_parameters()
            self.mean.zero_()
        for k in range(len(self._bits)):
            codes, scales = self._stored(k)
            if not codes.is_meta:
                codes.random_(0, 256)
            scales.fill_(_ONE)
        if len(self._bits) > 1 and not self.deviations.is_meta:
            order = torch.arange(len(self._bits), device="cpu")
            self.assign(order.repeat_interleave(torch.tensor(self._sizes(), device="cpu")))

    @torch.no_grad()
    def assign(self, classes: Int[Tensor, " num_embeddings"]) -> None:
        """Says which rows are of which class; what they hold must be set anew afterwards.

        Raises:
            ValueError: If a class has not as many rows as `sizes` says.
        """
        sizes = torch.bincount(classes, minlength=len(self._bits)).tolist()
        if tuple(sizes) != self._sizes():
            raise ValueError(f"Classes have {sizes} rows, which must be sizes={self._sizes()}.")
        if len(sizes) > 1:
            self.classes.copy_(classes)
            one_hot = nn.functional.one_hot(classes, len(sizes)).cumsum(0)
            before = nn.functional.pad(one_hot, (0, 0, 1, 0))[:-1:_BLOCK]
            self.before.copy_(before)

    def _sizes(self) -> tuple[int, ...]:
        return (self.num_embeddings,) if self.sizes is None else self.sizes

    def _stored(self, k: int) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"codes_{k}"), self.get_buffer(f"scales_{k}")

    def _parts(self, ids: Tensor) -> list[tuple[int, Tensor, Tensor]]:
        """Of each class among `ids`: where in `ids`, and where in the class."""
        if len(self._bits) == 1:
            return [(0, torch.arange(len(ids), device=ids.device), ids.long())]
        block = ids.long() // _BLOCK
        classes = self.classes[ids.long()]
        within = torch.arange(_BLOCK, device=ids.device)
        near = self.classes[(block[:, None] * _BLOCK + within).clamp_max(len(self.classes) - 1)]
        earlier = (near == classes[:, None]) & (within < (ids.long() % _BLOCK)[:, None])
        places = self.before[block, classes.long()] + earlier.sum(1)
        found = torch.bincount(classes.long(), minlength=len(self._bits)).nonzero().flatten()
        at = {k: (classes == k).nonzero().flatten() for k in found.tolist()}
        return [(k, where, places[where]) for k, where in at.items()]

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        axes = self.axes.whole_table() if self.rotate else None
        parts, places = [], []
        for k, where, place in self._parts(ids):
            parts.append(self._class_rows(k, place, axes))
            places.append(where)
        if not parts:
            return self.deviations.new_zeros(0, self.embedding_dim)
        rows = parts[0] if len(parts) == 1 else torch.cat(parts)[torch.cat(places).argsort()]
        return rows + self.mean if self.rotate else rows

    def traced_rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        if len(self._bits) == 1:
            return self.rows(ids)
        # Every class for every id.
        ids = ids.long()
        block, classes = ids // _BLOCK, F.embedding(ids, self.classes[:, None]).squeeze(1)
        within = torch.arange(_BLOCK, device=ids.device)
        near = (block[:, None] * _BLOCK + within).clamp_max(len(self.classes) - 1)
        earlier = within < (ids % _BLOCK)[:, None]
        axes = self.axes.whole_table() if self.rotate else None
        total = self.deviations.new_zeros(len(ids), self.embedding_dim)
        for k, size in enumerate(self._sizes()):
            if size:
                places = self.before[block, k] + ((self.classes[near] == k) & earlier).sum(1)
                rows = self._class_rows(k, places.clamp_max(size - 1), axes)
                total = total + rows.masked_fill((classes != k)[:, None], 0.0)
        return total + self.mean if self.rotate else total

    def _class_rows(self, k: int, place: Tensor, axes: Tensor | None) -> Tensor:
        """Rows of a class in the embedding's width, before the mean is added."""
        used, values = self._decode(k, place)
        if axes is not None:
            # Bits fall from axis to axis, mostly: the first ones, which need no copy.
            prefix = list(self._used(k)) == list(range(len(used)))
            return values @ (axes[: len(used)] if prefix else axes[used])
        if len(used) == self.columns:
            return values
        return values.new_zeros(len(place), self.columns).index_copy(1, used, values)

    def _used(self, k: int) -> list[int]:
        return [column for column, number in enumerate(self._bits[k]) if number]

    @torch.no_grad()
    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        """Rounds the rows anew, each at a scale of its own."""
        coordinates = rows.to(self.deviations)
        if self.rotate:
            inverse = torch.linalg.pinv(self.axes.whole_table().double()).to(coordinates)
            coordinates = (coordinates - self.mean) @ inverse
        for k, where, places in self._parts(ids):
            for place, row in zip(places.tolist(), coordinates[where], strict=True):
                self._encode(k, place, row[None])

    def _decode(self, k: int, place: Tensor) -> tuple[Tensor, Tensor]:
        """Columns that have bits in a class, and what its given rows have there."""
        used, levels, unit = self._levels(k)
        codes, scales = (tensor[place] for tensor in self._stored(k))
        values = unpack(codes, self._bits[k]).to(unit.dtype) if len(used) else codes.to(unit.dtype)
        values = (values - levels / 2) * unit
        scales = scales.view(torch.float16).to(unit.dtype)
        if scales.shape[1] > 1:
            scales = self._widened(scales)[:, used]
        return used, values * scales if len(used) else values

    def _levels(self, k: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of the columns with bits: which, the highest code, and the step at scale 1."""
        deviations = self.deviations[k]
        used, levels, step = _levels(self._bits[k], deviations.device, deviations.dtype)
        return used, levels, step * deviations.repeat_interleave(self.group_size)[used]

    def _widened(self, scales: Tensor) -> Tensor:
        size = self.scale_size or self.columns
        return scales.repeat_interleave(size, 1)[:, : self.columns]

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets axes, steps and all codes; rows stay in their classes.

        Axes are those of the roots of the weights: rows of great weight have bits enough in any.
        """
        table = target.table
        coordinates = table
        if self.rotate:
            roots = Target(table, target.weights.sqrt(), target.chunk)
            _, axes, mean = factorize(roots, self.columns, centre=True)
            self.mean.copy_(mean)
            self.axes.set_coordinates(axes.mT)
            # What the rounded axes reach, in their own coordinates.
            inverse = torch.linalg.pinv(self.axes.weight.double()).to(table)
            coordinates = (table - mean) @ inverse
        self.set_coordinates(coordinates, target.weights)

    @torch.no_grad()
    def set_coordinates(self, coordinates: Tensor, weights: Tensor | None = None) -> None:
        """Sets the codes and scales of all rows, and the deviations of classes."""
        for k in range(len(self._bits)):
            members = slice(None) if len(self._bits) == 1 else self.classes == k
            values = coordinates[members]
            if not len(values):
                continue
            w = values.new_ones(len(values)) if weights is None else weights[members]
            w = w / w.sum() if w.sum() > 0 else torch.full_like(w, 1 / len(w))
            groups = values.square().split(self.group_size, 1)
            deviations = torch.stack([(w @ group).mean().sqrt() for group in groups])
            deviations = deviations.clamp_min(deviations.max() * 1e-4 + 1e-30)
            bits = self._bits[k][:: self.group_size]
            spread = deviations.new_tensor([_SPREAD[b - 1] if b else 1.0 for b in bits])
            self.deviations[k, : len(bits)] = deviations * spread
            for first in range(0, len(values), 8192):
                self._encode(k, first, values[first : first + 8192])

    def _encode(self, k: int, first: int, values: Tensor) -> None:
        """Codes of the nearest levels, at the best of a few scales for each row."""
        used, levels, unit = self._levels(k)
        if not len(used):
            return
        values = values[:, used]
        size = self.scale_size or self.columns
        spans = (used // size).unique_consecutive(return_counts=True)[1].tolist()

        def sums(x: Tensor) -> Tensor:
            return torch.stack([part.sum(1) for part in x.split(spans, 1)], 1)

        def rounded(scales: Tensor) -> tuple[Tensor, Tensor]:
            step = unit * self._widened(scales)[:, used]
            codes = (values / step + levels / 2).round_().clamp_min_(0.0).minimum(levels)
            return codes, ((codes - levels / 2) * step - values).square_()

        bits = torch.tensor([b for b in self._bits[k] if b], device=unit.device)
        spread = unit.new_tensor(_SPREAD)[bits - 1]
        expected = (unit / spread).square() * (levels * (levels + 2) / 12)  # squares of a column
        base = (sums(values.square()) / sums(expected[None])).sqrt()
        whole = torch.stack(
            [part.amax(1) for part in (values.abs() / (unit * levels / 2)).split(spans, 1)], 1
        )
        best = errors = None
        for tried in (*(base * factor for factor in _TRIES), whole):  # the last one cuts nothing
            # Halves of full precision: neither zero nor infinite.
            scales = tried.clamp(2e-4, 6e4).half().to(values)
            error = sums(rounded(scales)[1])
            if best is None or errors is None:
                best, errors = scales, error
            else:
                best = torch.where(error < errors, scales, best)
                errors = torch.minimum(error, errors)
        best = cast(Tensor, best)
        stored_codes, stored_scales = self._stored(k)
        rows = slice(first, first + len(values))
        stored_scales[rows] = best.half().view(torch.int16)
        stored_codes[rows] = pack(rounded(best)[0].int(), self._bits[k])

    @torch.no_grad()
    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        """Cuts rows off, or adds some to the first class."""
        classes = self.classes if len(self._bits) > 1 else torch.zeros(self.num_embeddings)
        classes = classes.to(self.deviations.device).long()[:num_embeddings]
        new = num_embeddings - len(classes)
        for k in range(len(self._bits)):
            kept = int((classes == k).sum())
            for name, tensor in zip(("codes", "scales"), self._stored(k), strict=True):
                tensor = tensor[:kept]
                if new > 0 and k == 0:
                    added = tensor.new_empty(new, tensor.shape[1])
                    added = (
                        added.random_(0, 256)
                        if name == "codes"
                        else added.fill_(int(torch.tensor(1e-3).half().view(torch.int16)))
                        if mean
                        else added.fill_(_ONE)
                    )
                    tensor = torch.cat([tensor, added])
                setattr(self, f"{name}_{k}", tensor.clone())
        classes = torch.cat([classes, classes.new_zeros(max(new, 0))])
        self.num_embeddings = num_embeddings
        if self.sizes is not None:
            counts = torch.bincount(classes, minlength=len(self._bits))
            self.sizes = tuple(counts.tolist())
        if len(self._bits) > 1:
            self.classes = self.classes.new_empty(num_embeddings)
            blocks = ceil(num_embeddings / _BLOCK)
            self.before = self.before.new_empty(blocks, len(self._bits))
            self.assign(classes)

    def row_cost(self) -> int:
        return self.columns * self.embedding_dim if self.rotate else 0

    def extra_repr(self) -> str:
        bits = self.bits
        if not isinstance(bits, int):
            bits = f"{min(map(min, bits))}..{max(map(max, bits))}"
        text = f"{super().extra_repr()}, bits={bits}"
        return text if self.sizes is None else f"{text}, sizes={self.sizes}"
