"""Heat maps of |correlation|, all panels of a figure on one colour scale."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from define.report.style import COLOUR_MAP, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["heat_maps", "scale_top"]

_COLUMNS = 2  # at most: panels are looked at on a phone, too
_TOPS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


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


def heat_maps(
    title: str, panels: Sequence[tuple[str, Tensor]], unit: str, top: float | None = None
) -> Figure:
    """Square matrices of |values| side by side, on one colour scale.

    Args:
        title: Of the whole.
        panels: At least one title and matrix; NaN is grey.
        unit: What rows and columns are.
        top: End of the colour scale, see :func:`scale_top`; chosen from these panels if omitted.

    Raises:
        ValueError: If there are no panels.
    """
    if not panels:
        raise ValueError(f"{title}: there is nothing to draw.")
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.ticker import MaxNLocator

    columns = min(len(panels), _COLUMNS)
    rows = -(-len(panels) // columns)
    # Not higher than that: panels as wide as they can be would rise into the title.
    figure = new_figure(2.5 * rows + 0.5 if columns > 1 else 5.0)
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    top = scale_top(matrix for _, matrix in panels) if top is None else top
    scale = Normalize(0.0, top)
    for panel, (name, matrix) in zip(axes, panels, strict=False):
        panel.set_facecolor("#bbbbbb")  # where there is no correlation: NaN is not drawn
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
    figure.suptitle(title, fontsize=10)
    figure.colorbar(
        ScalarMappable(scale, COLOUR_MAP),
        ax=axes[: len(panels)].tolist(),
        location="bottom",
        label="|correlation|",
        extend="neither" if top == 1 else "max",
        shrink=0.8,
        aspect=30,
    )
    return figure
