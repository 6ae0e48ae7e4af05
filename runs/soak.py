"""Trains for hours and samples what a long job must keep flat: memory, handles, files, speed.

    python runs/soak.py OUT --hours 2 -- pydocs --training.epochs 1000

trains into OUT/run, writes OUT/samples.csv and in the end stops the training by SIGTERM and prints
medians of the first and the last quarter. Linux alone: it reads /proc. Speed is steps for each
second of processor time, so that other work of the machine is not in it.
"""

import argparse
import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

COLUMNS = ("minutes", "memory_mib", "handles", "threads", "files", "disk_mib", "steps_per_second")


def steps_done(run: Path) -> int:
    """The last step in the logs of this start."""
    logs = sorted(run.glob("logs/*/metrics.csv"), key=lambda path: path.stat().st_mtime)
    if not logs:
        return 0
    with logs[-1].open(encoding="utf-8", newline="") as file:
        return max((int(row["step"] or 0) for row in csv.DictReader(file)), default=0)


def sample(process: int, run: Path) -> tuple[list[float], float]:
    """Memory, handles, threads, files and disk; and seconds of processor time up to now."""
    proc = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    times = (proc / "stat").read_text().rpartition(")")[2].split()
    files = [path.stat().st_size for path in run.rglob("*") if path.is_file()]
    found = [
        int(status["VmRSS"].split()[0]) / 1024,
        len(list((proc / "fd").iterdir())),
        int(status["Threads"]),
        len(files),
        sum(files) / 2**20,
    ]
    return found, (int(times[11]) + int(times[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Trains and samples."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--every", type=float, default=60.0, help="seconds between samples")
    parser.add_argument("recipe", nargs="+", help="what `define train` gets")
    arguments = parser.parse_args()
    run, end = arguments.output / "run", time.monotonic() + 3600 * arguments.hours
    arguments.output.mkdir(parents=True)
    command = [sys.executable, "-m", "define", "train", *arguments.recipe, "--run", str(run)]
    rows: list[list[float]] = []
    begun = time.monotonic()
    with (
        (arguments.output / "log").open("wb") as log,
        (arguments.output / "samples.csv").open("w", newline="", buffering=1) as table,
        subprocess.Popen(command, stdout=log, stderr=log) as process,
    ):
        writer = csv.writer(table)
        writer.writerow(COLUMNS)
        steps, used = 0, 0.0
        while time.monotonic() < end:
            time.sleep(arguments.every)
            if process.poll() is not None:
                break
            now = steps_done(run)
            if now > steps > 0:  # the first ones hold imports
                found, total = sample(process.pid, run)
                minutes = (time.monotonic() - begun) / 60
                rows.append([minutes, *found, (now - steps) / (total - used)])
                writer.writerow([f"{value:.2f}" for value in rows[-1]])
                steps, used = now, total
            elif now:
                steps, used = now, sample(process.pid, run)[1]
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        code = process.wait(600)
    if not rows:
        sys.exit(f"Nothing was sampled, exit status {code}: see {arguments.output / 'log'}.")
    quarter = max(1, len(rows) // 4)
    print(f"{rows[-1][0]:.0f} minutes, {len(rows)} samples, {steps} steps, exit status {code}")
    for name, *values in zip(COLUMNS[1:], *(row[1:] for row in rows), strict=True):
        first, last = median(values[:quarter]), median(values[-quarter:])
        print(f"{name}: {first:.1f} -> {last:.1f}, from {min(values):.1f} to {max(values):.1f}")


if __name__ == "__main__":
    main()
