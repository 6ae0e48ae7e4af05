import pytest


@pytest.fixture(autouse=True)
def _cache(cache):
    pass
