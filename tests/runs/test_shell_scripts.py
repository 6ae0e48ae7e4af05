"""The shell scripts of runs with a `define` that only notes what it was asked for."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import soak

RUNS = Path(__file__).parents[2] / "runs"
DEFINE = """#!/usr/bin/env bash
echo "$*" >>"$NOTES"
[ "$1" = train ] || exit 0
while [ "$1" != --run ]; do shift; done
case "$2" in *"$FAILS"*) exit 1 ;; esac
mkdir -p "$2"
echo '{"name": "'"$2"'", "valid_perplexity": 1}' >"$2/summary.json"
printf '1 %s\\n2 %s\\n3 %s\\n' "$2" "$2" "$2" >"$2/translations.md"
"""


@pytest.fixture
def script(tmp_path):
    """Runs a script in an empty folder; its result, and the commands that it gave."""
    (tmp_path / "define").write_text(DEFINE)
    (tmp_path / "define").chmod(0o755)
    notes = tmp_path / "notes"

    def run(name, *arguments, fails="nothing", lines="", **environment):
        notes.write_text("")
        environment |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "NOTES": str(notes)}
        done = subprocess.run(
            [RUNS / name, *arguments],
            env=os.environ | environment | {"FAILS": fails},
            capture_output=True,
            text=True,
            input=lines,
            cwd=tmp_path,
        )
        return done, notes.read_text().splitlines()

    return run


EMBEDDINGS = {"standard", "projected", "DeFINE"}


@pytest.mark.parametrize(
    ("name", "arguments", "runs"),
    [
        ("ablation.sh", ("DATA", "OUT"), 12),
        ("awd_lstm.sh", ("DATA", "OUT"), EMBEDDINGS),
        ("awd_lstm.sh", ("DATA", "OUT", "1", "--seed", "2"), EMBEDDINGS),
        ("embeddings.sh", ("pydocs", "DATA", "OUT", "8"), 6),
        ("embeddings.sh", ("pydocs", "DATA", "OUT", "8", "1", "--dropout", "0"), 6),
        ("rates.sh", ("pydocs", "DATA", "OUT", "8"), 12),
        ("selection.sh", ("OUT",), 18),
        ("wikipedia_25m.sh", (".", "OTHER", "OUT"), {"n128-DeFINE", "n384"}),
        ("wmt14.sh", ("DATA", "OUT", "1"), {"standard", "DeFINE"}),
    ],
)
def test_each_run_is_trained_once(script, name, arguments, runs):
    rates = {"RATES": "1 2 3 4"}
    done, commands = script(name, *arguments, **rates)
    assert done.returncode == 0, done.stderr
    folders = [c.split("--run ")[1].split()[0] for c in commands if c.startswith("train ")]
    assert len(set(folders)) == len(folders) == (runs if isinstance(runs, int) else len(runs))
    assert isinstance(runs, int) or {Path(folder).name for folder in folders} == runs
    kinds = [c for c in commands if c.startswith("train ") and c.count("--embedding ") > 1]
    assert not kinds  # one embedding for each
    if "--seed" in arguments:
        assert all("--seed 2" in c for c in commands if c.startswith("train "))
    _, again = script(name, *arguments, **rates)
    assert not any(c.startswith("train ") for c in again)


def test_scores_of_all_translations_are_shown(script):
    done, _ = script("wmt14.sh", "DATA", "OUT")
    assert done.stdout.splitlines() == ["3 OUT/standard", "3 OUT/DeFINE"]


def test_a_run_that_fails_is_named_and_the_others_are_trained(script):
    done, commands = script("embeddings.sh", "pydocs", "DATA", "OUT", "8", fails="projected-1")
    assert "projected-1 failed: OUT/projected-1.log" in done.stdout
    assert sum(c.startswith("train ") for c in commands) == 6


def test_regimes_that_fail_are_said(script):
    lines = "wikipedia-lstm-25m --seeds 1\nwikipedia-lstm-25m --seeds 2\n"
    done, _ = script("wikipedia_regimes.sh", "DATA", "OTHER", "OUT", lines=lines, PYTHON="false")
    assert done.returncode != 0
    for seed in "12":
        assert f"failed: wikipedia-lstm-25m --seeds {seed}: OUT/regimes.log" in done.stderr


def test_parts_for_a_gpu_that_fail_do_not_keep_the_next_from_running(script):
    done, _ = script("gpu.sh", "DATA", "OUT", PYTHON="false")
    assert done.returncode == 0
    assert "failed: " in done.stderr and "DeFINE is not done" in done.stderr


def test_what_is_no_dry_run_is_refused(script):
    done, _ = script("gpu.sh", "DATA", "OUT", "--dryrun", PYTHON="false")
    assert done.returncode == 2 and done.stderr == "--dryrun: --dry is all that may follow.\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_training_that_ends_by_itself_is_reported(tmp_path, monkeypatch):
    """It ends between two samples, after a step that is new."""
    trained = tmp_path / "trained"
    trained.write_text(
        "#!/usr/bin/env bash\n"
        'logs="${@: -1}/logs/version_0"\n'
        'mkdir -p "$logs" && printf "step\\n1\\n" >"$logs/metrics.csv"\n'
        f'while [ ! -f "{tmp_path}/go" ]; do sleep 0.01; done\n'
        'echo 2 >>"$logs/metrics.csv"\n'
    )
    trained.chmod(0o755)
    waits = iter([lambda p: soak.steps_done(p) < 1, lambda p: soak.steps_done(p) < 2])
    popen, started = subprocess.Popen, []

    def start(*arguments, **options):
        started.append(popen(*arguments, **options))
        return started[0]

    sleep = soak.time.sleep

    def wait(_):
        waiting = next(waits)
        while waiting(tmp_path / "out" / "run"):
            sleep(0.01)
        if (tmp_path / "go").exists():
            os.waitid(os.P_PID, started[0].pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / "go").touch()

    monkeypatch.setattr(soak.subprocess, "Popen", start)
    monkeypatch.setattr(soak.sys, "executable", str(trained))
    monkeypatch.setattr(soak.sys, "argv", ["soak.py", str(tmp_path / "out"), "pydocs"])
    monkeypatch.setattr(soak.time, "sleep", wait)
    with pytest.raises(SystemExit, match="Nothing was sampled, exit status 0"):
        soak.main()
