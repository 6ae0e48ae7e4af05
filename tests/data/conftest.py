import os
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing that a test builds lands in the user's cache."""
    monkeypatch.setenv("DEFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "text"
    folder.mkdir()
    (folder / "train.txt").write_text(" the cat sat \n\nthe <unk> sat on the mat\n")
    (folder / "valid.txt").write_text("the dog sat\n")
    (folder / "test.txt").write_text("a cat")
    return folder


@pytest.fixture
def real():
    """A folder of the real sets by its name; the test is skipped where it is missing."""
    root = Path(__file__).parents[2].parent / "shared" / "data"
    root = Path(os.environ.get("DEFINE_DATA", root))

    def find(name):
        if not (root / name).is_dir():
            pytest.skip(f"{root / name} is not there")
        return root / name

    return find
