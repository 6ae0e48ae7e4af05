"""Group linear layers and the hierarchical group transform (HGT) of DeFINE.

Every variant of the paper's ablation is one class with other schedules: a linear stack has groups
``(1, 1, ...)``, a group linear transform (GLT) has ``(g, g, ...)``, HGT halves them layer by layer.
"""

from collections.abc import Callable, Iterator, Sequence
from math import lcm
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from define.modes import evaluating

__all__ = [
    "GroupLinear",
    "HierarchicalGroupTransform",
    "Skip",
    "group_schedule",
    "width_schedule",
]

SAMPLES = 1024  # random inputs over which layers are standardized: deviations are good to 3 %

Skip = Literal["none", "residual", "concatenation", "mix"]


def group_schedule(depth: int, max_groups: int) -> tuple[int, ...]:
    """Number of groups of each layer of HGT: halved from layer to layer, never below 1.

    g_l = max(⌊max_groups / 2^(l-1)⌋, 1), Eq. 1 of the paper.

    Example:
        >>> group_schedule(5, 8)
        (8, 4, 2, 1, 1)

    Raises:
        ValueError: If `depth` or `max_groups` is below 1.
    """
    if depth < 1 or max_groups < 1:
        raise ValueError(f"{depth=} and {max_groups=} must be at least 1.")
    return tuple(max(max_groups >> layer, 1) for layer in range(depth))


def width_schedule(in_features: int, out_features: int, groups: Sequence[int]) -> tuple[int, ...]:
    """Output width of each layer: linear from `in_features` to `out_features` (Sec. 3.2).

    Where the paper is silent, a width is rounded up so that the group counts on both of its sides
    divide it. The last width is `out_features` itself: what the user asked for is never rounded.

    Example:
        >>> width_schedule(128, 1024, (8, 4, 2))
        (432, 728, 1024)

    Raises:
        ValueError: If `out_features` is below `in_features`, or the last group count does not
            divide it.
    """
    if not 1 <= in_features <= out_features:
        raise ValueError(f"{out_features=} must be at least {in_features=}, and that at least 1.")
    if not groups or min(groups) < 1:
        raise ValueError(f"{groups=} must name at least one layer, with at least 1 group each.")
    if out_features % groups[-1]:
        raise ValueError(f"The last of {groups=} must divide {out_features=}.")
    depth = len(groups)
    widths = []
    for layer in range(1, depth):
        step = lcm(groups[layer - 1], groups[layer])
        width = in_features * depth + (out_features - in_features) * layer  # times depth
        widths.append(-(-width // (depth * step)) * step)
    return (*widths, out_features)


class GroupLinear(nn.Module):
    r"""Applies a linear map of its own to each of `groups` chunks of the features.

    .. math:: y = [x_1 W_1^\top, \dots, x_g W_g^\top] + b

    Reference:
        | DeFINE, App. A.1 (group transformation :math:`\mathcal{F}_G`)

    Args:
        in_features: Width of the input.
        out_features: Width of the output.
        groups: Number of chunks g; must divide both widths. 1 is an ordinary linear layer.
        bias: Whether to add a bias of `out_features` entries.
        shared: Whether all chunks use one matrix (the literal text of App. A.1) instead of one
            each (its Fig. 2d, and the default).
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If `groups` does not divide a width, or an input has another one.

    Shape:
        (\*batch, in_features) → (\*batch, out_features).

    Example:
        >>> GroupLinear(128, 512, groups=4)
        GroupLinear(in_features=128, out_features=512, groups=4)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        groups: int = 1,
        bias: bool = True,
        shared: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_features < 1 or out_features < 1 or groups < 1:
            raise ValueError(f"{in_features=}, {out_features=} and {groups=} must be at least 1.")
        if in_features % groups or out_features % groups:
            raise ValueError(f"{groups=} must divide {in_features=} and {out_features=}.")
        self.in_features = in_features
        self.out_features = out_features
        self.groups = groups
        self.shared = shared

        shape = (1 if shared else groups, out_features // groups, in_features // groups)
        self.weight = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        self.bias = (
            nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        )
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights that keep the variance of independent, centred inputs; zero bias."""
        self.weight.normal_(std=(self.in_features / self.groups) ** -0.5)
        if self.bias is not None:
            self.bias.zero_()

    @torch.no_grad()
    def standardize_parameters(self, inputs: Float[Tensor, "samples in"], std: float) -> None:
        """Draws parameters with which each output has mean 0 and deviation `std` over `inputs`.

        Without bias the mean stays; shared weights give the deviation on average over groups.
        """
        self.reset_parameters()
        outputs = self(inputs).float()
        deviation, mean = torch.std_mean(outputs, 0)
        if self.shared:
            deviation = deviation.view(self.groups, -1).square().mean(0).sqrt()
        scale = std / deviation.clamp_min(1e-6)  # a dead input stays dead
        self.weight.mul_(scale.view(len(self.weight), -1, 1))
        if self.bias is not None:
            self.bias.sub_(
                (mean.view(self.groups, -1) * scale.view(len(self.weight), -1)).flatten()
            )

    @property
    def multiply_adds(self) -> int:
        """Multiply-adds for one row of input."""
        return self.weight.numel() * (self.groups if self.shared else 1)

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if x.shape[-1] != self.in_features:
            in_features = self.in_features
            raise ValueError(f"Last dimension of {tuple(x.shape)} must be {in_features=}.")
        if self.groups == 1:
            return nn.functional.linear(x, self.weight.squeeze(0), self.bias)
        chunks = x.unflatten(-1, (self.groups, -1))  # (*batch, g, in/g)
        if self.shared:
            y = (chunks @ self.weight.squeeze(0).mT).flatten(-2)
            return y if self.bias is None else y + self.bias
        rows = chunks.flatten(0, -3) if chunks.dim() > 2 else chunks[None]
        factors = rows.transpose(0, 1), self.weight.mT
        if self.bias is None:
            y = torch.bmm(*factors)
        else:
            y = torch.baddbmm(self.bias.view(self.groups, 1, -1), *factors)  # (g, rows, out/g)
        return y.transpose(0, 1).reshape(*x.shape[:-1], self.out_features)

    def extra_repr(self) -> str:
        text = f"in_features={self.in_features}, out_features={self.out_features}"
        text += f", groups={self.groups}"
        if self.bias is None:
            text += ", bias=False"
        return text + ", shared=True" if self.shared else text


class HierarchicalGroupTransform(nn.Module):
    r"""Expands features through group linear layers that read the input again at every layer.

    Layer l is a :class:`GroupLinear` with ``groups[l]`` groups, then `norm`, `activation` and
    dropout. From the second layer on it reads, by `skip`:

    - ``"none"``: the previous output alone (plain HGT);
    - ``"residual"``: the same, and adds its own result to it (all widths must be equal);
    - ``"concatenation"``: the previous output with the whole input behind it;
    - ``"mix"``: both split in chunks, chunk j of the one beside chunk j of the other (DeFINE).

    Reference:
        | DeFINE, Sec. 3.2, Eq. 1 (HGT), Sec. 3.3, Fig. 3 (split and mix), Fig. 4 (the variants)

    Args:
        in_features: Width n of the input.
        widths: Output width of each layer, see :func:`width_schedule`.
        groups: Number of groups of each layer, see :func:`group_schedule`.
        skip: How layers from the second on read the input.
        shuffle: Whether features are interleaved across groups between layers ("GLT + shuffle").
        shared: Whether all groups of a layer share one matrix.
        activation: Makes the elementwise activation after each layer.
        activate_last: Whether the last layer too has normalization, activation and dropout,
            instead of ending in a linear map.
        norm: Makes the normalization before each activation from its width, of each row by itself;
            none if omitted.
        dropout: Dropout probability after each activation.
        std: Standard deviation of the input at initialization, and of what each layer gives to
            its activation.
        device: Device of the parameters.
        dtype: Type of the parameters.

    Raises:
        ValueError: If widths, groups and `skip` do not fit together, or a norm joins rows.
        TypeError: If `activation` or `norm` is a module instead of making one.

    Shape:
        (\*batch, in_features) → (\*batch, widths[-1]).

    Example:
        >>> HierarchicalGroupTransform(64, (128, 192, 256), group_schedule(3, 4))
        HierarchicalGroupTransform(
          skip=mix
          (linears): ModuleList(
            (0): GroupLinear(in_features=64, out_features=128, groups=4)
            (1): GroupLinear(in_features=192, out_features=192, groups=2)
            (2): GroupLinear(in_features=256, out_features=256, groups=1)
          )
          (endings): ModuleList(
            (0-2): 3 x Sequential(
              (0): GELU(approximate='none')
              (1): Dropout(p=0.0, inplace=False)
            )
          )
        )
    """

    def __init__(
        self,
        in_features: int,
        widths: Sequence[int],
        groups: Sequence[int],
        *,
        skip: Skip = "mix",
        shuffle: bool = False,
        shared: bool = False,
        activation: Callable[[], nn.Module] = nn.GELU,
        activate_last: bool = True,
        norm: Callable[[int], nn.Module] | None = None,
        dropout: float = 0.0,
        std: float = 1.0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if skip not in get_args(Skip):
            raise ValueError(f"{skip=} must be one of {get_args(Skip)}.")
        if not widths or len(widths) != len(groups):
            raise ValueError(f"{widths=} and {groups=} must name the same layers, at least one.")
        if min(groups) < 1:
            raise ValueError(f"{groups=} must be at least 1 each.")
        if skip == "residual" and len(set(widths)) > 1:
            raise ValueError(f"skip='residual' needs equal widths, not {widths=}.")
        if skip == "mix" and any(in_features % g for g in groups):
            raise ValueError(f"Every one of {groups=} must divide {in_features=} to mix it in.")
        for name, made in (("activation", activation), ("norm", norm)):
            if isinstance(made, nn.Module):
                kind = type(made).__name__
                raise TypeError(f"{name}={made} must make one for each layer: {kind}, for example.")
            if made is not None and not callable(made):
                example = "GELU" if name == "activation" else "LayerNorm"
                raise TypeError(
                    f"{name}={made!r} must be a class or function that makes a module for each "
                    f"layer: torch.nn.{example}, for example."
                )
        self.in_features = in_features
        self.out_features = widths[-1]
        self.widths = tuple(widths)
        self.groups = tuple(groups)
        self.skip = skip
        self.shuffle = shuffle
        self.std = std

        self.linears = nn.ModuleList()
        for layer, (width, g) in enumerate(zip(widths, groups, strict=True)):
            reads = in_features if layer == 0 else widths[layer - 1]
            if layer and skip in ("concatenation", "mix"):
                reads += in_features
            self.linears.append(
                GroupLinear(reads, width, g, shared=shared, device=device, dtype=dtype)
            )
        self.endings = nn.ModuleList()
        for layer, width in enumerate(widths):
            parts = [norm(width)] if norm else []
            parts += [activation(), nn.Dropout(dropout)]
            ends = activate_last or layer + 1 < len(widths)
            self.endings.append(nn.Sequential(*parts) if ends else nn.Identity())
        for part in self.endings.modules():
            if isinstance(part, _NormBase):
                raise ValueError(
                    f"{part} joins rows, but each must depend on itself alone: norm may be "
                    "torch.nn.LayerNorm or torch.nn.RMSNorm."
                )
        self.endings.to(device=device, dtype=dtype)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws parameters for centred Gaussian inputs of deviation `std`."""
        like = next(self.parameters())
        if like.is_meta:
            return  # nothing to draw; torch would import its compiler for it
        x = torch.randn(SAMPLES, self.in_features, device=like.device, dtype=like.dtype)
        self.standardize_parameters(x * self.std)

    @torch.no_grad()
    def standardize_parameters(
        self, x: Float[Tensor, "samples in"]
    ) -> Float[Tensor, "samples out"]:
        """Draws parameters layer by layer, so that none gives more or less than deviation `std`.

        Before each activation, every feature has mean 0 and deviation `std` over the samples `x`,
        whatever activation, normalization, groups and depth (as in LSUV, Mishkin & Matas 2016, but
        on random inputs, so no data are needed).

        Returns:
            The output for `x`.
        """
        for norm in self.endings.modules():
            if isinstance(norm, nn.LayerNorm | nn.RMSNorm) and norm.elementwise_affine:
                norm.reset_parameters()
                norm.weight.fill_(self.std)  # without it, the layers would outweigh the input
        y = x
        with evaluating(self):  # no dropout
            for layer, (linear, ending) in enumerate(zip(self.linears, self.endings, strict=True)):
                reads = self._join(layer, y, x)
                cast(GroupLinear, linear).standardize_parameters(reads, self.std)
                branch = ending(linear(reads))
                y = y + branch if layer and self.skip == "residual" else branch
        return y

    def _join(self, layer: int, y: Tensor, x: Tensor) -> Tensor:
        """What `layer` reads of the previous output `y` and the input `x`."""
        if layer == 0:
            return x
        if self.shuffle:
            y = y.unflatten(-1, (self.groups[layer - 1], -1)).mT.flatten(-2)
        if self.skip == "concatenation":
            y = torch.cat([y, x], -1)
        if self.skip == "mix":
            # (*batch, g, width/g)
            chunks = [t.unflatten(-1, (self.groups[layer], -1)) for t in (y, x)]
            y = torch.cat(chunks, -1).flatten(-2)
        return y

    def outputs(self, x: Float[Tensor, "*batch in"]) -> Iterator[Float[Tensor, "*batch width"]]:
        """The output of each layer in turn; the last one is that of the module."""
        y = x
        for layer, (linear, ending) in enumerate(zip(self.linears, self.endings, strict=True)):
            branch = ending(linear(self._join(layer, y, x)))
            y = y + branch if layer and self.skip == "residual" else branch
            yield y

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        *_, y = self.outputs(x)
        return y

    def extra_repr(self) -> str:
        return f"skip={self.skip}" + (", shuffle=True" if self.shuffle else "")
