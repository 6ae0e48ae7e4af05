import os
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


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
