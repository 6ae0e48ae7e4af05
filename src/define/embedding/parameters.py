"""Lists of parameters that tools bring to where they are needed."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

__all__ = ["ParameterDict", "ParameterList"]


class _Called(nn.Module):
    """Parameters that are fetched by a call.

    Tools that keep weights elsewhere (on disk, on other devices) bring them when a module is
    called; torch's own lists of parameters never are, and are empty in `nn.DataParallel`.
    """

    __call__: Callable[..., Any] = nn.Module.__call__  # which torch's lists refuse

    def _replicate_for_data_parallel(self) -> nn.Module:
        return nn.Module._replicate_for_data_parallel(self)  # without the warning


class ParameterList(_Called, nn.ParameterList):
    """`torch.nn.ParameterList` that gives its parameters when called."""

    def forward(self) -> list[Tensor]:
        return list(self)


class ParameterDict(_Called, nn.ParameterDict):
    """`torch.nn.ParameterDict` that gives its parameters when called."""

    def forward(self) -> dict[str, Tensor]:
        return dict(self.items())
