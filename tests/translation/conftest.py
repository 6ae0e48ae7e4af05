import pytest
from tiny import cache_in
from tiny_pairs import write_pairs


@pytest.fixture(autouse=True)
def _cache(tmp_path):
    with cache_in(tmp_path / "cache"):
        yield


@pytest.fixture
def folder(tmp_path):
    return write_pairs(tmp_path / "pairs")
