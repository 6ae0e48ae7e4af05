"""The list of runs."""

import json
import shutil
import threading

import pytest
from filelock import FileLock
from messages import failure
from tiny import arguments

from define.__main__ import main
from define.training import Run


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


def test_a_run_that_patience_ended_is_listed_with_the_epochs_that_it_had(runs, capsys):
    run = Run(runs / "finished")
    (run.path / "checksums.json").unlink()  # its settings are changed on purpose
    text = run.config.read_text().replace("patience: 0", "patience: 1")
    run.config.write_text(text.replace("  epochs: 1\n", "  epochs: 30\n"))
    main(["runs", str(run.path), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["state"], row["epoch"], row["epochs"]) == ("finished", 1, 30)


def test_a_run_that_trains_now_is_listed_as_that(runs, capsys):
    with Run(runs / "begun").locked():
        main(["runs", str(runs / "begun"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "training"
    shutil.copytree(runs / "stopped", runs / "killed")
    (runs / "killed" / ".holder.json").write_text("{}")  # a kill leaves it
    main(["runs", str(runs / "killed"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "stopped"


def test_who_asks_keeps_no_training_from_its_start(tmp_path):
    asking = FileLock(tmp_path / ".lock", thread_local=False)
    asking.acquire()
    timer = threading.Timer(0.2, asking.release)
    timer.start()
    with Run(tmp_path).locked():
        timer.join()


def test_an_embedding_without_a_class_is_listed(runs, capsys):
    config = runs / "begun" / "config.yaml"
    config.write_text(config.read_text().replace("class_path: define.DeFINE", "other: 1"))
    main(["runs", str(runs / "begun"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert row["state"] == "begun"


def test_damage_is_named_and_half_a_line_of_a_log_is_none(runs, capsys):
    log = next((runs / "stopped").glob("logs/*/metrics.csv"))
    log.write_text("epoch,valid_perplexity\n0,65.98\n1,6.3.\n")
    main(["runs", str(runs / "stopped"), "--json"])
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["epoch"], row["valid"]) == (1, 65.98)
    summary = runs / "finished" / "summary.json"
    content = json.loads(summary.read_text())
    summary.write_text(json.dumps({**content, "test_perplexity": 1.0}))
    for command in (["runs", runs / "finished"], ["compare", runs / "finished"]):
        assert "summary.json is damaged" in failure(capsys, *command)
    config = runs / "begun" / "config.yaml"
    config.write_text(config.read_text().partition("\n")[0] + "\ntraining: 3\n")
    assert "config.yaml is damaged" in failure(capsys, "runs", runs / "begun")


def test_no_runs(tmp_path, capsys):
    main(["runs", str(tmp_path)])
    assert "No runs" in capsys.readouterr().out
    assert "nowhere" in failure(capsys, "runs", tmp_path / "nowhere")
    (tmp_path / "config.yaml").write_text("# recipe: text\na: [\n")
    assert "damaged" in failure(capsys, "runs", tmp_path)


def test_compare_sees_that_runs_were_measured_on_other_texts(trained, tmp_path, caplog):
    text, run = trained
    figure = ["--figure", str(tmp_path / "figure.svg")]
    shutil.copytree(text, tmp_path / "text")
    with (tmp_path / "text" / "test.txt").open("a") as file:
        file.write("w01 w02\n")  # known words: the vocabulary is the same
    for name, folder in (("same", text), ("other", tmp_path / "text")):
        main(arguments(folder, tmp_path / name, "--seed", "2"))
    caplog.clear()
    main(["compare", str(run.path), str(tmp_path / "same"), *figure])
    assert not caplog.records
    main(["compare", str(run.path), str(tmp_path / "same"), str(tmp_path / "other"), *figure])
    assert "of 2 texts, so their perplexities do not compare: define, same | other." in caplog.text
