import pytest
import torch
from torch import nn

from define.training import Run


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path)


def test_weights_come_back_whole(run):
    one, two = nn.Linear(3, 2), nn.Linear(3, 2)
    run.save_weights(one)
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
    run.save_weights(nn.Linear(3, 2))
    before = [parameter.clone() for parameter in other.parameters()]
    with pytest.raises(ValueError, match=message) as error:
        run.load_weights(other)
    assert str(run.weights) in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, other.parameters(), strict=True))


def test_missing_weights_are_named(run):
    run.save_weights(nn.Linear(3, 2, bias=False))
    with pytest.raises(ValueError, match=r"bias: missing saved, \(2,\) in the model"):
        run.load_weights(nn.Linear(3, 2))


def test_damaged_weights_are_named(run):
    run.save_weights(nn.Linear(3, 2))
    run.weights.write_bytes(run.weights.read_bytes()[:-4])
    with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
        run.load_weights(nn.Linear(3, 2))


def test_a_failed_save_leaves_the_old_weights(run, monkeypatch):
    model = nn.Linear(3, 2)
    run.save_weights(model)
    before = run.weights.read_bytes()

    def full(state, path):
        path.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("define.training.run.save_file", full)
    with torch.no_grad():
        model.weight.zero_()
    with pytest.raises(OSError, match="no space left"):
        run.save_weights(model)
    assert run.weights.read_bytes() == before


@pytest.mark.parametrize("missing", ["config.yaml", "vocabulary.txt", "model.safetensors"])
def test_a_folder_that_is_no_run_is_named(run, missing):
    for path in (run.config, run.vocabulary, run.weights):
        if path.name != missing:
            path.touch()
    with pytest.raises(FileNotFoundError, match=f"has no {missing}") as error:
        Run.open(run.path)
    assert str(run.path) in str(error.value)
