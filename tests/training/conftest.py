import pytest
from tiny import cache_in, write_text

from define.training import Run


@pytest.fixture(autouse=True)
def _cache(tmp_path):
    with cache_in(tmp_path / "cache"):
        yield


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text")


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")
