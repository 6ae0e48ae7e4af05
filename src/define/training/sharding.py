"""Parameters that devices share instead of each holding all (FSDP2)."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer

__all__ = ["SharedParameters", "reshard", "shard", "whole"]

_WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class SharedParameters(ModelParallelStrategy):
    """Lightning's FSDP2, with the checkpoints of a run: whole tensors, whatever the devices.

    Args:
        world_size: Number of processes.
    """

    def __init__(self, world_size: int) -> None:
        super().__init__(world_size, 1, save_distributed_checkpoint=False)

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        found: Any = get_optimizer_state_dict(self._module, optimizer, options=_WHOLE)
        if not self.is_global_zero:
            return {}
        # torch names parameters, and counts them by group where they are not shared.
        names = [name for group in found["param_groups"] for name in group["params"]]
        ids = {name: i for i, name in enumerate(names)}
        groups = [
            {**group, "params": [ids[name] for name in group["params"]]}
            for group in found["param_groups"]
        ]
        states = {ids[name]: found["state"][name] for name in names if name in found["state"]}
        return {"state": states, "param_groups": groups}

    def save_checkpoint(
        self,
        checkpoint: dict[str, Any],
        filepath: str | Path,
        storage_options: Any = None,  # noqa: ANN401
    ) -> None:
        if self.is_global_zero:
            self.checkpoint_io.save_checkpoint(checkpoint, filepath)

    def load_checkpoint(
        self, checkpoint_path: str | Path, weights_only: bool | None = None
    ) -> dict[str, Any]:
        found = self.checkpoint_io.load_checkpoint(checkpoint_path)
        set_model_state_dict(self._module, found["state_dict"], options=_WHOLE)
        names = {parameter: name for name, parameter in self._module.named_parameters()}
        for optimizer, saved in zip(self.optimizers, found["optimizer_states"], strict=True):
            if not saved["state"]:  # plain descent has none, which torch takes for an error
                optimizer.load_state_dict(saved)
                continue
            groups, states = [], {}
            for group, ours in zip(saved["param_groups"], optimizer.param_groups, strict=True):
                named = [names[parameter] for parameter in ours["params"]]
                groups.append({**group, "params": named})
                for i, name in zip(group["params"], named, strict=True):
                    if i in saved["state"]:
                        states[name] = saved["state"][i]
            state = {"state": states, "param_groups": groups}
            set_optimizer_state_dict(self._module, optimizer, state, options=_WHOLE)
        return found

    @property
    def _module(self) -> nn.Module:
        if self.model is None:
            raise RuntimeError("The strategy has no model yet.")
        return self.model


def shard(model: nn.Module, mesh: DeviceMesh) -> None:
    """Shares the parameters of a model out: each device holds a part of each.

    They are gathered for the forward pass and the backward pass of each step, and given back. So
    gradients and the state of the optimizer, twice or three times the parameters, are shared all
    the time.
    """
    fully_shard(model, mesh=mesh)
    register_fsdp_forward_method(model, "hidden")  # of translation


def reshard(model: nn.Module) -> None:
    """Gives gathered parameters back; nothing where they are not shared."""
    if isinstance(model, FSDPModule):
        model.reshard()


def whole(named: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """The whole of tensors that may be shared, by name; all processes must ask for it."""
    return {name: t.full_tensor() if isinstance(t, DTensor) else t for name, t in named}
