"""Heat maps of |correlation|, all panels of a figure on one colour scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from define.measures.correlation import Correlation
from define.measures.layers import LayerCorrelation
from define.report.style import COLOUR_MAP, new_figure, plain

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["correlation_figure", "group_figure", "layer_figure", "scale_top", "split_groups"]

_COLUMNS = 4  # at most
_TOPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def correlation_figure(correlations: Mapping[str, Correlation]) -> Figure:
    """|Correlation| between the dimensions of several embeddings, side by side.

    Args:
        correlations: By name, at least one.

    Raises:
        ValueError: If there are none.
    """
    panels = [
        (f"{plain(name)}\nmean |r| = {c.mean_absolute:.3f}", c.matrix)
        for name, c in correlations.items()
    ]
    return _heat_maps("Correlation between dimensions, over the vocabulary", panels, "dimension")


def layer_figure(name: str, layers: Sequence[LayerCorrelation], top: float | None = None) -> Figure:
    """|Correlation| between the features of each layer of one embedding.

    Args:
        name: Of the embedding.
        layers: At least one.
        top: End of the colour scale, see :func:`scale_top`; chosen from these layers if omitted.
    """
    panels = [
        (
            f"{layer.name}{_groups(layer.groups)}\n"
            f"mean |r| = {layer.correlation.mean_absolute:.3f}",
            layer.correlation.matrix,
        )
        for layer in layers
    ]
    return _heat_maps(f"{plain(name)}: correlation, layer by layer", panels, "feature", top)


def group_figure(name: str, layers: Sequence[LayerCorrelation], top: float | None = None) -> Figure:
    """Mean |correlation| between the groups of each layer that has several.

    Args:
        name: Of the embedding.
        layers: All of them.
        top: End of the colour scale, see :func:`scale_top`; chosen from these layers if omitted.

    Raises:
        ValueError: If no layer has several groups.
    """
    panels = []
    for layer in layers:
        if layer.groups > 1:
            within, between = split_groups(layer.between_groups)
            title = f"{layer.name}\nwithin {within:.3f}, between {between:.3f}"
            panels.append((title, layer.between_groups))
    title = f"{plain(name)}: mean |correlation| between groups of features"
    if panels and top is None:
        top = scale_top((matrix for _, matrix in panels), diagonal=True)
    return _heat_maps(title, panels, "group", top)


def scale_top(matrices: Iterable[Tensor], diagonal: bool = False) -> float:
    """The end of a colour scale that suits all of some figures; the few values above are cut there.

    Args:
        matrices: Square, of |values| up to 1; NaN where there is none.
        diagonal: Whether diagonals have a say; those of correlations are 1.
    """
    values = []
    for matrix in matrices:
        matrix = matrix.abs().clone()
        if not diagonal:
            matrix.fill_diagonal_(torch.nan)
        flat = matrix[~matrix.isnan()]
        # Every panel has a say, whatever its size; `quantile` takes no more than 2^24 values.
        if len(flat):
            place = max(1, round(0.95 * len(flat)))
            values.append(flat.kthvalue(place).values.item())
    highest = max(values, default=1.0)
    return next((top for top in _TOPS if top >= highest), 1.0)


def split_groups(between: Tensor) -> tuple[float, float]:
    """Mean |correlation| within groups, and between different groups."""
    own = torch.eye(len(between), dtype=torch.bool)
    return between[own].nanmean().item(), between[~own].nanmean().item()


def _groups(count: int) -> str:
    return f" ({count} groups)" if count > 1 else ""


def _heat_maps(
    title: str, panels: Sequence[tuple[str, Tensor]], unit: str, top: float | None = None
) -> Figure:
    """Square matrices of |values| side by side, on one colour scale."""
    if not panels:
        raise ValueError(f"{title}: there is nothing to draw.")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    rows = -(-len(panels) // _COLUMNS)
    columns = -(-len(panels) // rows)  # five panels are three and two, not four and one
    figure = new_figure(2.6 * columns + 1.1, 2.8 * rows + 0.5)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    top = scale_top(matrix for _, matrix in panels) if top is None else top
    scale = Normalize(0.0, top)
    for panel, (name, matrix) in zip(axes, panels, strict=False):
        panel.set_facecolor("#BBBBBB")  # where there is no correlation: NaN is not drawn
        size = len(matrix)
        panel.imshow(
            matrix.abs().numpy(),
            cmap=COLOUR_MAP,
            norm=scale,
            extent=(0.5, size + 0.5, size + 0.5, 0.5),  # counted from 1
        )
        panel.set_title(name, fontsize=9)
        panel.set_xlabel(unit)
        panel.set_ylabel(unit)
        for axis in (panel.xaxis, panel.yaxis):
            axis.set_major_locator(MaxNLocator(4, integer=True))
    for panel in axes[len(panels) :]:
        panel.remove()
    figure.suptitle(_wrapped(title, columns), fontsize=11)
    figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP),
        ax=axes[: len(panels)].tolist(),
        label="|correlation|",
        extend="neither" if top == 1 else "max",
        shrink=0.8,
    )
    return figure


def _wrapped(title: str, columns: int) -> str:
    """A title in two lines over a single panel, whose figure is narrow."""
    return title if columns > 1 else title.replace(": ", ":\n").replace(", ", ",\n")
