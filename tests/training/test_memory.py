"""Memory of a process."""

import platform
import subprocess
import sys

import pytest

from define.training import memory

# Faults of blocks that were there before: one for each page that the system fills with zeros.
FAULTS = """
import resource, torch
from define.training import keep_memory

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

{call}
for _ in range(5):
    torch.ones(2**24)
before = faults()
for _ in range(5):
    torch.ones(2**24)
print(faults() - before)
"""


def faults(call: str) -> int:
    command = [sys.executable, "-c", FAULTS.format(call=call)]
    environment = {"THP_MEM_ALLOC_ENABLE": "0"}
    return int(subprocess.run(command, capture_output=True, check=True, env=environment).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc alone is told")
def test_a_block_that_was_freed_is_used_again():
    assert faults("keep_memory()") < 1000 < faults("")


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(memory.ctypes, "pythonapi", object())
    memory.keep_memory()
