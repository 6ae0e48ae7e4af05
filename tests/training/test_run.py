import signal

import pytest
import torch
from torch import nn

from define.training import Run
from define.training.checkpoint import RunCheckpoints


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_weights_come_back_whole(run):
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    run.save_weights(one.state_dict())
    run.load_weights(two)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    names = {path.name for path in run.path.iterdir()}
    assert names == {"model.safetensors", "checksums.json"}


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (nn.Linear(4, 2), r"weight: \(2, 3\) saved, \(2, 4\) in the model"),
        (nn.Linear(3, 2, bias=False), r"bias: \(2,\) saved, none in the model"),
        (nn.Bilinear(3, 3, 2), r"weight: \(2, 3\) saved, \(2, 3, 3\) in the model"),
    ],
)
def test_weights_of_another_model_are_named(run, other, message):
    run.save_weights(nn.Linear(3, 2).state_dict())
    before = [parameter.clone() for parameter in other.parameters()]
    with pytest.raises(ValueError, match=message) as error:
        run.load_weights(other)
    assert str(run.weights) in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_missing_weights_are_named(run):
    run.save_weights(nn.Linear(3, 2, bias=False).state_dict())
    with pytest.raises(ValueError, match=r"bias: missing saved, \(2,\) in the model"):
        run.load_weights(nn.Linear(3, 2))


def test_damaged_weights_are_named(run):
    run.save_weights(nn.Linear(3, 2).state_dict())
    run.weights.write_bytes(run.weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        run.load_weights(nn.Linear(3, 2))


def test_a_full_disk_is_an_error_of_the_system_and_leaves_the_old_files(run):
    resource = pytest.importorskip("resource")
    run.checkpoint.parent.mkdir()
    run.save_weights(nn.Linear(3, 2).state_dict())
    checkpoints = RunCheckpoints(run)
    checkpoints.save_checkpoint({"state_dict": {}}, run.checkpoint)
    before = run.weights.read_bytes(), run.checkpoint.read_bytes(), run.checksums.read_bytes()
    large = nn.Linear(100, 100).state_dict()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
        with pytest.raises(OSError, match="cannot be written"):
            run.save_weights(large)
        with pytest.raises(OSError, match="cannot be written"):
            checkpoints.save_checkpoint({"state_dict": dict(large)}, run.checkpoint)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, handler)
    after = run.weights.read_bytes(), run.checkpoint.read_bytes(), run.checksums.read_bytes()
    assert before == after


@pytest.mark.parametrize("missing", ["config.yaml", "vocabulary.txt", "model.safetensors"])
def test_a_folder_that_is_no_run_is_named(run, missing):
    for path in (run.config, run.vocabulary, run.weights):
        if path.name != missing:
            path.touch()
    with pytest.raises(FileNotFoundError, match=f"has no {missing}") as error:
        Run.open(run.path)
    assert str(run.path) in str(error.value)
