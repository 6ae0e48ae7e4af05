"""What several contracts are tried under."""

import pytest

from define.embedding import shared


@pytest.fixture(params=["kept", "made again"])
def chunks(request, monkeypatch):
    """All that a chunk holds for the gradient is kept, or some of it is made again."""
    monkeypatch.setattr(shared, "_CHUNK", 7)
    if request.param == "made again":
        monkeypatch.setattr(shared, "_KEPT", 1500)
