import pytest


@pytest.fixture(autouse=True)
def _cache(cache):
    pass


@pytest.fixture
def run(tmp_path):
    from define.training import Run  # here: needs the extra, without which tests are skipped

    return Run(tmp_path / "run")
