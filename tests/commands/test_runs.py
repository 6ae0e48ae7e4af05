"""The list of runs."""

import json
import shutil

import pytest
from messages import failure

from define.__main__ import main


@pytest.fixture
def runs(trained, tmp_path, request):
    """A finished run, one that was stopped, and one that has only begun."""
    old = request.config.rootpath / "tests" / "fixtures" / "0.1"
    shutil.copytree(trained[1].path, tmp_path / "runs" / "finished")
    shutil.copytree(old / "runs-stopped" / "lstm", tmp_path / "runs" / "stopped")
    (tmp_path / "runs" / "begun").mkdir()
    shutil.copy(trained[1].config, tmp_path / "runs" / "begun")
    (tmp_path / "runs" / "other").mkdir()
    (tmp_path / "runs" / "other" / "config.yaml").write_text("colour: red\n")
    return tmp_path / "runs"


def test_runs_are_listed(runs, trained, monkeypatch, capsys):
    monkeypatch.chdir(runs.parent)
    main(["runs"])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    summary = json.loads(trained[1].summary.read_text())
    by_state = {line.split("|")[4].strip(): line for line in lines[2:]}
    assert f"{summary['test_perplexity']:.2f}" in by_state["finished"]
    assert "| 1 of 1 |" in by_state["finished"]
    assert " DeFINE |" in by_state["stopped"] and "wikitext-103-lstm" in by_state["stopped"]
    assert "| 1 of 2 |" in by_state["stopped"] and "65.98" in by_state["stopped"]
    assert "| 0 of 1 |" in by_state["begun"]
    main(["runs", str(runs / "stopped"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["epoch"], row["epochs"], row["test"]) == ("stopped", 1, 2, None)


def test_no_runs(tmp_path, capsys):
    main(["runs", str(tmp_path)])
    assert "No runs" in capsys.readouterr().out
    assert "nowhere" in failure(capsys, "runs", tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("# recipe: text\na: [\n")
    assert "damaged" in failure(capsys, "runs", tmp_path)
