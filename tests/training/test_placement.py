"""Where the processes of a training find out which of them they are."""

import pytest

from define.training import Fitting, Placement


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, Placement(3, 1, 0)),
        ({"LOCAL_RANK": "2"}, Placement(3, 1, 2)),  # Lightning started it
        (
            {
                "TORCHELASTIC_RUN_ID": "none",
                "WORLD_SIZE": "8",
                "LOCAL_WORLD_SIZE": "4",
                "RANK": "5",
                "LOCAL_RANK": "1",
            },
            Placement(4, 2, 5),
        ),
        (
            {"SLURM_NTASKS": "6", "SLURM_NNODES": "2", "SLURM_PROCID": "4", "SLURM_JOB_NAME": "x"},
            Placement(3, 2, 4),
        ),
        ({"SLURM_NTASKS": "6", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "bash"}, Placement(3)),
    ],
)
def test_processes_as_the_environment_says(environment, expected):
    found = Placement.of(Fitting(devices=3), environment)
    assert found == expected and found.world_size == expected.devices * expected.nodes
