import pytest
from tiny import write_text

from define.training import Run


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text")


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")
