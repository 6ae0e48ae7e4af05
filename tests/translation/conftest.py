import pytest
from tiny_pairs import write_pairs


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "pairs")
