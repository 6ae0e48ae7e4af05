"""Speed against peers: ratios of time, everything in turns in one process on one thread.

    python benchmarks/bench.py                    # some minutes of one core
    python benchmarks/bench.py --full             # the paper's sizes too
    python benchmarks/bench.py --only step look   # some of it

Each round runs all candidates of a section on the same batch; what counts is the median, over the
rounds, of a candidate's processor time over the reference's, with quartiles. Prints Markdown and
writes it to `bench.md`, with all numbers and the machine in `bench.json`, in the folder `--output`:
after each section, so that one that fails costs itself alone.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from sections import SECTIONS, Section

from define.files import write_text

__all__ = ["machine", "main", "measure", "table"]


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    processor = platform.processor()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        values = dict(line.split(":", 1) for line in lines if ":" in line)
        values = {key.strip(): value.strip() for key, value in values.items()}
        processor = f"{values.get('model name')}, family {values.get('cpu family')}"
    command = ["git", "describe", "--always", "--dirty"]
    folder = Path(__file__).parent
    commit = subprocess.run(command, cwd=folder, capture_output=True, text=True).stdout.strip()
    return {
        "processor": processor,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def measure(section: Section, rounds: int) -> dict[str, list[float]]:
    """Processor time in seconds of each candidate in each round, all of them in turns."""
    times: dict[str, list[float]] = {name: [] for name in section.candidates}
    for turn in range(rounds + 1):
        batch = section.batch()
        for name, candidate in section.candidates.items():
            start = _now()
            candidate(*batch)
            if turn:  # the first round warms up
                times[name].append(_now() - start)
    return times


def _now() -> float:
    """Processor time, whatever else the machine does; on a GPU the clock, its queue emptied."""
    if torch.get_default_device().type == "cpu":
        return time.process_time()
    torch.cuda.synchronize()
    return time.perf_counter()


def summarize(times: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median time and, relative to the first candidate, the median ratio and its quartiles."""
    reference = next(iter(times.values()))
    found = {}
    for name, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, reference, strict=True)]
        low, middle, high = (
            statistics.quantiles(ratios, n=4) if len(ratios) > 1 else 3 * [ratios[0]]
        )
        found[name] = {
            "ms": 1000 * statistics.median(seconds),
            "ratio": middle,
            "low": low,
            "high": high,
        }
    return found


def table(title: str, note: str, found: dict[str, dict[str, float]]) -> str:
    """One section in Markdown."""
    lines = [f"### {title}", "", note, "", "| | ms | time, relative | quartiles |"]
    lines.append("| --- | ---: | ---: | ---: |")
    for name, values in found.items():
        spread = f"{values['low']:.3g} to {values['high']:.3g}"
        lines.append(f"| {name} | {values['ms']:.3g} | **{values['ratio']:.3g}** | {spread} |")
    return "\n".join(lines)


def run(names: Iterable[str], full: bool, rounds: int | None, folder: Path) -> None:
    """Measures sections, and writes what is known after each."""
    described = machine()
    print(", ".join(f"{key} {value}" for key, value in described.items()), "\n", file=sys.stderr)
    texts = ["\n".join(f"- {key}: {value}" for key, value in described.items())]
    numbers: dict[str, Any] = {"machine": described, "full": full, "sections": {}}
    for name in names:
        makers: list[Callable[[], Section]] = SECTIONS[name](full)
        for make in makers:
            section = make()
            times = measure(section, rounds or section.rounds)
            found = summarize(times)
            texts.append(table(section.title, section.note, found))
            print(texts[-1], "\n", flush=True)
            numbers["sections"][section.title] = {"summary": found, "seconds": times}
            write_text(folder / "bench.json", json.dumps(numbers, indent=1))
            write_text(folder / "bench.md", "\n\n".join(texts) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Runs the benchmark and writes what it found."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="the paper's sizes too, half an hour")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=list(SECTIONS))
    parser.add_argument("--rounds", type=int, help="of every section; its own by default")
    parser.add_argument("--device", default="cpu", help="cuda: everything on the GPU")
    parser.add_argument("--output", type=Path, default=Path("bench"))
    options = parser.parse_args(arguments)
    if options.rounds is not None and options.rounds < 1:
        parser.error(f"--rounds {options.rounds} must be at least 1.")
    if options.output.exists() and not options.output.is_dir():
        parser.error(f"--output {options.output} must be a folder.")
    options.output.mkdir(parents=True, exist_ok=True)  # before an hour is spent
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.device(options.device):
        run(dict.fromkeys(options.only), options.full, options.rounds, options.output)


if __name__ == "__main__":
    main()
