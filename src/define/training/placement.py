"""Which processes a training runs in, and which of them this one is."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from define.training.settings import Fitting

__all__ = ["Placement"]


@dataclass(frozen=True)
class Placement:
    """Processes of a training, one a device.

    Args:
        devices: On each machine.
        nodes: Machines.
        rank: Number of this process among all.
    """

    devices: int = 1
    nodes: int = 1
    rank: int = 0

    @property
    def world_size(self) -> int:
        """Number of all processes."""
        return self.devices * self.nodes

    @classmethod
    def of(cls, training: Fitting, environment: Mapping[str, str] = os.environ) -> "Placement":
        """As torchrun or SLURM say it, if one of them started this process, else as set.

        Args:
            training: Has the number of devices where nobody else says it.
            environment: Variables of the process.
        """

        def number(name: str, default: int = 1) -> int:
            return int(environment.get(name, default))

        if "TORCHELASTIC_RUN_ID" in environment:  # torchrun
            local = number("LOCAL_WORLD_SIZE")
            return cls(local, number("WORLD_SIZE") // local, number("RANK", 0))
        # An interactive shell of SLURM has them too, but srun starts no tasks in it.
        interactive = environment.get("SLURM_JOB_NAME") in ("bash", "interactive")
        if number("SLURM_NTASKS") > 1 and "SLURM_PROCID" in environment and not interactive:
            nodes = number("SLURM_NNODES", number("SLURM_JOB_NUM_NODES"))
            return cls(number("SLURM_NTASKS") // nodes, nodes, number("SLURM_PROCID", 0))
        return cls(training.devices, 1, number("LOCAL_RANK", 0))
