import pytest
from tiny import write_text


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def folder(tmp_path):
    return write_text(tmp_path / "text")
