"""Full disks and second starts: a short form of `make stress`."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(sys.platform != "linux", reason="forks, limits of files")
def test_full_disks_and_second_starts():
    script = Path(__file__).with_name("stress.py")
    options = ("--models", "LSTM", "--tests", "filled", "doubled", "--draws", "1")
    found = subprocess.run(
        [sys.executable, str(script), *options], capture_output=True, text=True, timeout=900
    )
    assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("wrong", [("--tests", "killed"), ("--draws", "0")])
def test_what_would_try_nothing_is_refused(wrong, capsys):
    import stress  # here: needs all extras

    with pytest.raises(SystemExit):
        stress.options([*wrong])
    assert wrong[1] in capsys.readouterr().err
