"""A benchmark that fails says so, and what it measured before is there."""

import json
import subprocess
import sys
from pathlib import Path

import bench
import compression
import computed_table
import pytest
import torch
import wikitext_103_step
from sections import SECTIONS, Section

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [  # no process can have 0 threads
        ("computed_table.py", ("--num_embeddings", "100"), "RuntimeError"),
        ("wikitext_103_step.py", ("--rows", "n 128"), "n 128: its process ended"),
    ],
)
def test_nobody_waits_for_a_process_that_has_ended(script, options, said):
    command = [sys.executable, str(BENCHMARKS / script), *options, "--threads", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode and said in done.stderr


@pytest.mark.parametrize(
    ("script", "options", "said"),
    [
        (computed_table, ("--tokens", "100", "--length", "60"), "--length 60 must divide"),
        (wikitext_103_step, ("--rounds", "0"), "--rounds 0 must be at least 1"),
        (compression, ("glove", "--data", ".", "--shares", "0"), "must be above 0"),
    ],
    ids=lambda x: getattr(x, "__name__", ""),
)
def test_what_cannot_be_measured_is_said(script, options, said, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["script", *options])
    with pytest.raises(SystemExit):
        script.main()
    assert said in capsys.readouterr().err


def test_a_section_that_fails_costs_itself_alone(monkeypatch, tmp_path):
    section = Section("Sums", "One.", {"one": lambda: torch.ones(3).sum()})

    def fail():
        raise MemoryError

    monkeypatch.setitem(SECTIONS, "unit", lambda full: [lambda: section, fail])
    with pytest.raises(MemoryError):
        bench.main(["--only", "unit", "--rounds", "1", "--output", str(tmp_path)])
    assert list(json.loads((tmp_path / "bench.json").read_text())["sections"]) == ["Sums"]
    assert "### Sums" in (tmp_path / "bench.md").read_text()


class Few:
    """A task of a table of three rows."""

    def __init__(self, folder, pairs):
        self.table, self.weights = torch.eye(3, 8), torch.ones(3)

    def scores(self, table):
        return {"sum": float(table.sum())}


def test_rows_of_a_method_that_fails_later_are_there(monkeypatch, tmp_path):
    def fail(*_):
        raise MemoryError

    file = tmp_path / "rows.json"
    monkeypatch.setitem(compression.METHODS, "PQ", lambda: fail)
    command = ["compression.py", "glove", "--data", ".", "--shares", "1"]
    command += ["--methods", "int8 rows", "PQ", "--json"]
    monkeypatch.setattr(sys, "argv", [*command, str(tmp_path / "none" / "rows.json")])
    monkeypatch.setitem(compression.TASKS, "glove", fail)
    with pytest.raises(FileNotFoundError):  # before the task is made
        compression.main()
    monkeypatch.setattr(sys, "argv", [*command, str(file)])
    monkeypatch.setitem(compression.TASKS, "glove", Few)
    with pytest.raises(MemoryError):
        compression.main()
    assert [row["method"] for row in json.loads(file.read_text())] == ["int8 rows"]
