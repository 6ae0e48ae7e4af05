"""Group linear layers and the hierarchical group transform (HGT) of DeFINE.

Every variant of the paper's ablation is one class with other schedules: a linear stack has groups
``(1, 1, ...)``, a group linear transform (GLT) has ``(g, g, ...)``, HGT halves them layer by layer.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from math import lcm
from typing import Literal, cast, get_args

import torch
from jaxtyping import Float
from torch import Tensor, nn

__all__ = [
    "GroupLinear",
    "HierarchicalGroupTransform",
    "Skip",
    "group_schedule",
    "width_schedule",
]

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

    def reset_parameters(self) -> None:
        """Draws weights that keep the variance of independent, centred inputs; zero bias."""
        self.standardize_parameters(torch.zeros(self.in_features), torch.ones(self.in_features))

    @torch.no_grad()
    def standardize_parameters(self, mean: Tensor, variance: Tensor, std: float = 1.0) -> None:
        """Draws weights so that outputs have mean 0 and deviation `std` for inputs as described.

        Args:
            mean: (in_features,) mean of each input feature; the bias cancels what it contributes.
            variance: (in_features,) variance of each input feature, taken as independent.
            std: Standard deviation of each output feature.
        """
        variance = variance.view(self.groups, 1, -1).to(self.weight)
        if self.shared:
            variance = variance.mean(0, keepdim=True)
        # Each output's weights are scaled by what was drawn for it: where a group has few inputs,
        # deviations of draws from their expectation would multiply from layer to layer.
        drawn = self.weight.normal_().square().mul(variance).sum(-1, keepdim=True).sqrt()
        self.weight.mul_(std / drawn)
        if self.bias is not None:
            chunks = mean.view(self.groups, -1, 1).to(self.weight)
            self.bias.copy_(-(self.weight @ chunks).flatten())

    def forward(self, x: Float[Tensor, "*batch in"]) -> Float[Tensor, "*batch out"]:
        if x.shape[-1] != self.in_features:
            raise ValueError(f"Last dimension of {tuple(x.shape)} must be {self.in_features=}.")
        if self.groups == 1:
            return nn.functional.linear(x, self.weight[0], self.bias)
        chunks = x.unflatten(-1, (self.groups, -1))  # (*batch, g, in/g)
        if self.shared:
            y = chunks @ self.weight[0].mT
        else:
            rows = chunks.flatten(0, -3) if chunks.dim() > 2 else chunks[None]
            y = torch.bmm(rows.transpose(0, 1), self.weight.mT).transpose(0, 1)  # (rows, g, out/g)
        y = y.reshape(*x.shape[:-1], self.out_features)
        return y if self.bias is None else y + self.bias

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
        norm: Makes the normalization before each activation from its width; none if omitted.
        dropout: Dropout probability after each activation.
        std: Standard deviation of the input at initialization, and of what each layer gives to
            its activation.
        device: Device of the parameters.
        dtype: Type of the parameters.

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
        self.endings.to(device=device, dtype=dtype)
        with torch.device("cpu"):  # its numbers are needed, whatever the device of the module
            self._probe = (deepcopy(activation()).to("cpu", torch.float64),)  # not registered
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draws weights that keep mean 0 and deviation `std` before each activation."""
        for linear, (mean, variance) in zip(self.linears, self._planned_inputs(), strict=True):
            cast(GroupLinear, linear).standardize_parameters(mean, variance, self.std)
        for norm in self.endings.modules():
            if isinstance(norm, nn.LayerNorm | nn.RMSNorm) and norm.elementwise_affine:
                norm.reset_parameters()
                norm.weight.fill_(self.std)  # without it, the layers would outweigh the input

    def output_moments(self) -> tuple[Tensor, Tensor]:
        """Mean and variance (out_features,) of the output features at initialization."""
        *_, (mean, variance) = self._planned_outputs()
        return mean, variance

    def _planned_outputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        mean, variance = 0.0, 0.0
        activated = gaussian_moments(self._probe[0], self.std)
        for width, ending in zip(self.widths, self.endings, strict=True):
            linear_end = isinstance(ending, nn.Identity)
            own_mean, own_variance = (0.0, self.std**2) if linear_end else activated
            if self.skip != "residual":
                mean, variance = 0.0, 0.0
            mean, variance = mean + own_mean, variance + own_variance  # branches add up
            yield torch.full((width,), mean), torch.full((width,), variance)

    def _planned_inputs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """The moments of what each layer reads, joined as its input is."""
        zeros = torch.zeros(self.in_features)
        given = zeros + self.std**2
        outputs = [(zeros, given), *self._planned_outputs()]
        for layer, (mean, variance) in enumerate(outputs[:-1]):
            yield self._join(layer, mean, zeros), self._join(layer, variance, given)

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


def gaussian_moments(activation: Callable[[Tensor], Tensor], std: float) -> tuple[float, float]:
    """Mean and variance of an elementwise activation of a centred Gaussian of deviation `std`."""
    z = torch.linspace(-8, 8, 4097, dtype=torch.float64, device="cpu")
    density = torch.exp(-z.square() / 2)
    density /= density.sum()
    with torch.no_grad(), torch.device("cpu"):
        y = activation(z * std)
    mean = (density * y).sum()
    return mean.item(), (density * (y - mean).square()).sum().item()
