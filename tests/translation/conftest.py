import pytest


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def folder(tmp_path):
    from tiny_pairs import write_pairs  # here: needs the extra, without which tests are skipped

    return write_pairs(tmp_path / "pairs")
