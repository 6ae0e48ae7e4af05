"""Rounded embedding: rows kept in a few bits a number, more for rows that matter more."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby
from math import ceil

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from define.embedding.base import Embedding
from define.embedding.clusters import k_means, nearest_rows
from define.embedding.levels import encode, grid_of, levels_of, nearest, part_of, spread_of
from define.embedding.packing import Columns, bits_of_classes, pack, unpack
from define.embedding.target import Target, principal_axes
from define.embedding.tracing import is_traced

__all__ = ["RoundedEmbedding"]

_BLOCK = 128  # ids of which one count is kept for each class
_CHUNK = 8192  # rows that are set at a time
_ONE = 0x3C00  # 1 in float16


class RoundedEmbedding(Embedding):
    r"""Keeps rows as whole numbers of a few bits, with a scale for each row.

    .. math:: e_i = R \, (s_i \, d_{c(i)} \odot q_i) + \mu

    q_i are codes of as many bits as the class c(i) of the row has for each group of columns, in
    levels that are symmetric about zero (with one bit, ± one half); s_i is a 16-bit scale, d one
    number for each class and group. R, a matrix with orthonormal columns that is rounded itself,
    and µ are there with `rotate`: in the axes of a table's principal components a few columns hold
    most of it, and rare words need bits in those alone. All codes are packed in bytes, in memory
    as in a file, and only the rows that are asked for are unpacked. With `num_centres`, µ is one of
    a few rows of 8 bits for each id: k-means, and codes for what is left.

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
        scale_size: Columns that share one of a row's scales; all of them if omitted. With 0 rows
            have no scales, and are as large as their class.
        rotate: Whether columns are coordinates in axes of its own.
        axis_bits: Bits of a number of R.
        num_centres: Rows that are added to, at most 256; only with `rotate`.
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
        num_centres: int = 0,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(num_embeddings, embedding_dim, padding_idx, std)
        num_embeddings, embedding_dim = self.num_embeddings, self.embedding_dim
        if group_size < 1 or (scale_size is not None and scale_size < 0):
            raise ValueError(f"{group_size=} must be at least 1, {scale_size=} at least 0.")
        self.bits = bits if isinstance(bits, int) else tuple(tuple(each) for each in bits)
        self.sizes = None if sizes is None else tuple(sizes)
        self.group_size, self.scale_size = group_size, scale_size
        if not 0 <= num_centres <= 256 or (num_centres and not rotate):
            raise ValueError(f"{num_centres=} must be 0 to 256, and 0 without rotate.")
        self.rotate, self.axis_bits, self.num_centres = rotate, axis_bits, num_centres
        groups = ceil(embedding_dim / group_size)
        table = bits_of_classes(self.bits, groups)
        counts = (num_embeddings,) if self.sizes is None else self.sizes
        if len(counts) != len(table) or min(counts) < 0 or sum(counts) != num_embeddings:
            raise ValueError(f"{sizes=} must be {len(table)} numbers, {num_embeddings=} in all.")

        # Axes that no row has bits for are not kept.
        used = [g for g in range(groups) if any(row[g] for row in table)]
        columns = min((max(used, default=0) + 1) * group_size, embedding_dim)
        self.columns = columns if rotate else embedding_dim
        self._bits = tuple(Columns(tuple(row), group_size, self.columns) for row in table)
        like = {"device": device, "dtype": dtype}
        self.deviations = nn.Parameter(torch.empty(len(table), groups, **like))
        for k, (size, columns) in enumerate(zip(counts, self._bits, strict=True)):
            scales = ceil(self.columns / (scale_size or self.columns)) if any(columns.each()) else 0
            scales = 0 if scale_size == 0 else scales
            codes = torch.empty(size, columns.width(), dtype=torch.uint8, device=device)
            # The bits of 16-bit numbers: `to(dtype)` must not make them wider.
            halves = torch.empty(size, scales, dtype=torch.int16, device=device)
            self.register_buffer(f"codes_{k}", codes)
            self.register_buffer(f"scales_{k}", halves)
        if len(table) > 1:
            blocks = ceil(num_embeddings / _BLOCK)
            self.register_buffer("classes", self.get_buffer("codes_0").new_empty(num_embeddings))
            before = torch.empty(blocks, len(table), dtype=torch.int32, device=device)
            self.register_buffer("before", before)
        if rotate:
            self.axes = RoundedEmbedding(
                self.columns, embedding_dim, bits=axis_bits, scale_size=None, **like
            )
            self.mean = nn.Parameter(torch.empty(embedding_dim, **like))
        if num_centres:
            self.centres = RoundedEmbedding(num_centres, embedding_dim, bits=8, **like)
            self.register_buffer("nearest", self.get_buffer("codes_0").new_empty(num_embeddings))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        self.deviations.fill_(self.std)
        if self.rotate:
            self.axes.std = self.columns**-0.5
            self.axes.reset_parameters()
            self.mean.zero_()
        if self.num_centres:
            self.centres.std = 1e-3 * self.std  # codes vary enough
            self.centres.reset_parameters()
            self.nearest.zero_()
        for k in range(len(self._bits)):
            codes, scales = self._stored(k)
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
        return getattr(self, f"codes_{k}"), getattr(self, f"scales_{k}")

    def _parts(self, ids: Tensor) -> tuple[Tensor | None, list[tuple[int, Tensor]]]:
        """An order of `ids` by classes, and of each class among them its rows in that order."""
        if len(self._bits) == 1:
            return None, [(0, ids.long())]
        ids = ids.long()
        block, classes = ids // _BLOCK, self.classes[ids]
        # Windows over the classes are rows of one view: they are copied whole, not id by id.
        width = min(_BLOCK, self.num_embeddings)
        start = (block * _BLOCK).clamp_max(self.num_embeddings - width)
        near = self.classes.unfold(0, width, 1)[start]
        within = torch.arange(width, dtype=torch.uint8, device=ids.device)
        first, own = ((x - start)[:, None].to(torch.uint8) for x in (block * _BLOCK, ids))
        # From the block's first id on and before the own one: unsigned numbers wrap.
        earlier = (near == classes[:, None]) & (within - first < own - first)
        order = classes.argsort()
        places = (self.before[block, classes.long()] + earlier.sum(1))[order]
        counts = torch.bincount(classes, minlength=len(self._bits)).tolist()
        return order, [(k, at) for k, at in enumerate(places.split(counts)) if len(at)]

    def rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        order, parts = self._parts(ids)
        axes, (steps, lowest) = self._small(self.axes) if self.rotate else None, self._grid()
        found = [self._coordinates(k, place, steps[k], lowest[k]) for k, place in parts]
        if not found:
            return self.deviations.new_zeros(0, self.embedding_dim)
        # One product with the axes for all classes of the same first columns.
        same = groupby(found, lambda each: getattr(each[0], "stop", id(each[0])))
        made = [self._joined([*group], axes) for _, group in same]
        rows = made[0] if len(made) == 1 else torch.cat(made)
        rows = rows if order is None else torch.empty_like(rows).index_copy(0, order, rows)
        return rows + self._centre_rows(ids) if self.num_centres else rows

    def _small(self, table: "RoundedEmbedding") -> Tensor:
        # They are kept between look-ups, m² numbers, where no gradient would hang on them.
        return table.whole_table() if torch.is_grad_enabled() else table.made_rows()

    def _centre_rows(self, ids: Tensor) -> Tensor:
        return F.embedding(self.nearest[ids.long()].long(), self._small(self.centres))

    def traced_rows(self, ids: Int[Tensor, " rows"]) -> Float[Tensor, "rows features"]:
        if len(self._bits) == 1:
            return self.rows(ids)
        # Every class for every id.
        ids = ids.long()
        block, classes = ids // _BLOCK, F.embedding(ids, self.classes[:, None]).squeeze(1)
        within = torch.arange(_BLOCK, device=ids.device)
        near = (block[:, None] * _BLOCK + within).clamp_max(len(self.classes) - 1)
        earlier = within < (ids % _BLOCK)[:, None]
        axes, (steps, lowest) = self._small(self.axes) if self.rotate else None, self._grid()
        total = self.deviations.new_zeros(len(ids), self.embedding_dim)
        for k, size in enumerate(self._sizes()):
            if size:
                places = self.before[block, k] + ((self.classes[near] == k) & earlier).sum(1)
                place = places.clamp_max(size - 1)
                rows = self._joined([self._coordinates(k, place, steps[k], lowest[k])], axes)
                total = total + rows.masked_fill((classes != k)[:, None], 0.0)
        return total + self._centre_rows(ids) if self.num_centres else total

    def _coordinates(
        self, k: int, place: Tensor, steps: Tensor, lowest: Tensor
    ) -> tuple[slice | Tensor, Tensor]:
        """Rows of a class in the columns that it has bits for, from their steps and levels."""
        codes, scales = self._stored(k)
        codes = codes.index_select(0, place)
        # Read as 16-bit numbers before rows are taken: `vmap` of torch 2.11 cannot do it after.
        scales = scales.view(torch.float16).index_select(0, place).to(steps.dtype)
        part = part_of(self._bits[k], steps.device)
        values = unpack(codes, self._bits[k]) if codes.shape[1] else codes
        values = values.to(steps.dtype)
        # In place where it may be: a block of new memory costs more than the arithmetic.
        room = None if torch.is_grad_enabled() or is_traced(values) else values
        values = torch.addcmul(lowest[part], values, steps[part], out=room)
        if scales.shape[1] > 1:
            scales = scales.repeat_interleave(self.scale_size or 1, 1)[:, : self.columns][:, part]
        return part, values.mul_(scales) if scales.shape[1] else values

    def _joined(self, found: list[tuple[slice | Tensor, Tensor]], axes: Tensor | None) -> Tensor:
        """Rows in the embedding's width from coordinates in the same columns."""
        part, values = found[0]
        if len(found) > 1:
            values = torch.cat([each.mT for _, each in found], 1).mT
        if axes is not None:
            return torch.addmm(self.mean, values.to(axes.dtype), axes[part])
        values = values.to(self.deviations.dtype)
        if values.shape[1] == self.columns:
            return values
        used = torch.arange(self.columns, device=values.device)[part]
        return values.new_zeros(len(values), self.columns).index_copy(1, used, values)

    def _grid(self) -> tuple[Tensor, Tensor]:
        """Steps and lowest levels of all classes (classes, columns), at scale 1."""
        # In float32 at least: in bfloat16 the lowest of 256 levels would be a fourth of a step off.
        wide = self.deviations.to(torch.promote_types(self.deviations.dtype, torch.float32))
        deviations = wide.repeat_interleave(self.group_size, 1)[:, : self.columns]
        steps, lowest = grid_of(self._bits, deviations.device, deviations.dtype)
        return steps * deviations, lowest * deviations

    @torch.no_grad()
    def approximate(self, target: Target) -> None:
        """Sets axes, steps and all codes; rows stay in their classes.

        Axes are those of the roots of the weights: rows of great weight have bits enough in any.
        """
        if self.num_centres:
            target = self.set_centres(target)
        coordinates = target.table
        if self.rotate:
            _, axes, mean = principal_axes(target, self.columns)
            self.mean.copy_(mean)
            self.axes.set_coordinates(axes)
            # What the rounded axes reach, in their own coordinates.
            inverse = torch.linalg.pinv(target.seen(self.axes.whole_table()).double())
            coordinates = target.seen(coordinates - mean) @ inverse.to(mean)
        self.set_coordinates(coordinates, target.weights)

    @torch.no_grad()
    def set_centres(self, target: Target) -> Target:
        """Sets the centres, and which of them rows are added to; what is left of the table."""
        seen = target.seen(target.table)
        means = k_means(seen, target.weights, self.num_centres)
        root = target.root
        self.centres.set_coordinates(means if root is None else means @ torch.linalg.inv(root))
        table = self.centres.whole_table()
        self.nearest.copy_(nearest_rows(seen, target.seen(table)))
        return replace(target, table=target.table - table[self.nearest.long()])

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
            bits = self._bits[k].bits[: ceil(self.columns / self.group_size)]
            self.deviations[k, : len(bits)] = deviations * spread_of(bits, deviations)
            for place in torch.arange(len(values), device=values.device).split(_CHUNK):
                self._encode(k, place, values[place])

    def _encode(self, k: int, place: Tensor, values: Tensor) -> None:
        """Sets the given rows of a class to the nearest that there are."""
        grid = self._grid()[0]
        used, levels, _ = levels_of(self._bits[k], grid.device, grid.dtype)
        if not len(used):
            return
        values, steps = values[:, used].to(grid.dtype), grid[k, used]
        stored_codes, stored_scales = self._stored(k)
        if stored_scales.shape[1]:
            shared = used // (self.scale_size or self.columns)
            shared, spans = shared.unique_consecutive(return_counts=True)
            codes, scales = encode(values, levels, steps, spans.tolist())
            stored_scales[place[:, None], shared] = scales.half().view(torch.int16)
        else:
            codes = nearest(values, levels, steps).int()
        stored_codes[place] = pack(codes, self._bits[k])

    @torch.no_grad()
    def set_own_rows(self, ids: Tensor, rows: Tensor) -> None:
        """Rounds the rows anew, each at a scale of its own."""
        coordinates = rows.to(self.deviations)
        if self.num_centres:
            self.nearest[ids] = nearest_rows(coordinates, self.centres.whole_table()).byte()
            coordinates = coordinates - self._centre_rows(ids)
        if self.rotate:
            inverse = torch.linalg.pinv(self.axes.whole_table().double()).to(coordinates)
            coordinates = (coordinates - self.mean) @ inverse
        order, parts = self._parts(ids)
        coordinates = coordinates if order is None else coordinates[order]
        counts = [len(place) for _, place in parts]
        for (k, place), values in zip(parts, coordinates.split(counts), strict=True):
            self._encode(k, place, values)

    @torch.no_grad()
    def resize_tables(self, num_embeddings: int, mean: bool) -> None:
        """Cuts rows off, or adds some to the first class."""
        old = self.num_embeddings
        sample = self.rows(torch.arange(min(old, _CHUNK), device=self.deviations.device))
        classes = torch.zeros(old, dtype=torch.int64, device=sample.device)
        classes = (self.classes.long() if len(self._bits) > 1 else classes)[:num_embeddings]
        new = max(num_embeddings - old, 0)
        for k in range(len(self._bits)):
            kept = int((classes == k).sum())
            for name, tensor in zip(("codes", "scales"), self._stored(k), strict=True):
                added = tensor.new_zeros(new if k == 0 else 0, tensor.shape[1])
                setattr(self, f"{name}_{k}", torch.cat([tensor[:kept], added]))
        classes = torch.cat([classes, classes.new_zeros(new)])
        self.num_embeddings = num_embeddings
        if self.num_centres:
            self.nearest = F.pad(self.nearest, (0, num_embeddings - old))
        if self.sizes is not None:
            self.sizes = tuple(torch.bincount(classes, minlength=len(self._bits)).tolist())
        if len(self._bits) > 1:
            self.classes = self.classes.new_empty(num_embeddings)
            self.before = self.before.new_empty(ceil(num_embeddings / _BLOCK), len(self._bits))
            self.assign(classes)
        if new:
            deviation, centre = torch.std_mean(sample, 0, correction=0)
            noise = torch.randn(new, self.embedding_dim).to(sample)
            rows = centre + noise * deviation * (1e-4 if mean else 1.0)
            self.set_own_rows(torch.arange(old, num_embeddings, device=rows.device), rows)

    def row_cost(self) -> int:
        return self.columns * self.embedding_dim if self.rotate else 0

    def extra_repr(self) -> str:
        bits = self.bits
        if not isinstance(bits, int):
            bits = f"{min(map(min, bits))}..{max(map(max, bits))}"
        text = f"{super().extra_repr()}, bits={bits}"
        return text if self.sizes is None else f"{text}, sizes={self.sizes}"
