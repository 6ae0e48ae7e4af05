"""What all tests share: one thread, seeds, and annotations checked while the code runs."""

import pytest
import torch
from hypothesis import settings
from jaxtyping import config, install_import_hook
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

# Before `define` is imported. Shapes in signatures are then laws that every test checks.
install_import_hook(
    ["define.groups", "define.dropout", "define.embedding", "define.softmax", "define.models"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",  # an int is a float
)
torch.set_num_threads(1)  # two threads with a busy neighbour are many times slower
settings.register_profile("define", deadline=None, max_examples=25, derandomize=True)
settings.load_profile("define")


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """Nothing that a test builds lands in the user's cache."""
    monkeypatch.setenv("DEFINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def folder(tmp_path):
    """A tiny text; folders of tests with other data have another."""
    from tiny import write_text  # imports define

    return write_text(tmp_path / "text")


@pytest.fixture
def unchecked():
    """Annotations not checked: what a user gives wrongly must meet our own errors."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


class Allocations(TorchDispatchMode):
    """Notes the size, in elements, of the largest tensor that an operation gives."""

    largest = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for t in tree_leaves(result):
            if isinstance(t, Tensor):
                elements = t.untyped_storage().nbytes() // t.element_size()
                self.largest = max(self.largest, elements)
        return result


@pytest.fixture
def allocations():
    return Allocations
