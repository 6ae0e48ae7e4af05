import pytest

from define.training import Run


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def run(tmp_path):
    return Run(tmp_path / "run")
