"""What all tests share: one thread, seeds, and annotations checked while the code runs."""

import os
import re
from importlib.util import find_spec

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


def _lacks(text):
    """What to say of an error where a package is not installed; nothing of other errors."""
    found = re.search(r"No module named '(\w+)", str(text))
    if found and not os.environ.get("CI") and find_spec(found[1]) is None:
        return f"Skipped: needs {found[1]}"


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    """Tests of an extra that is not installed are skipped, file by file."""
    report = yield
    if report.failed and (reason := _lacks(report.longrepr)):
        report.outcome, report.longrepr = "skipped", (str(collector.path), 0, reason)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """The same of what is imported while a test runs."""
    report = yield
    error = call.excinfo and call.excinfo.value
    if isinstance(error, ModuleNotFoundError) and (
        reason := _lacks(f"No module named '{error.name}")
    ):
        report.outcome, report.longrepr = "skipped", (str(item.path), 0, reason)
    return report


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
