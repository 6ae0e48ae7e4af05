"""How fast a large text becomes a vocabulary and ids, in how much memory, and what a kill leaves.

Writes a text of ``--tokens`` words, distributed by Zipf's law over a vocabulary of WikiText-103's
size, into a temporary folder, and opens it three times, each in a fresh process: killed half-way,
again after that, and a second time from the cache. Prints the time by the clock and on the
processor, tokens/s and the peak resident memory, and what `import define.data` alone takes of it.

    python benchmarks/text_to_ids.py --tokens 103000000
"""

import argparse
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

WORDS = 267_735
LINE = 60  # tokens a line


def main() -> None:
    """Run the benchmark, or one opening of it (``--open``) in its own process."""
    parser = argparse.ArgumentParser(description="From a large text to ids.")
    parser.add_argument("--tokens", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path, help="where the temporary folder is made")
    parser.add_argument("--open", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.open:
        open_text(arguments.open)
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        folder = Path(name)
        size = write_text(folder / "train.txt", arguments.tokens)
        print(f"{arguments.tokens:,} tokens, {size / 1e6:.0f} MB")
        whole = run(folder)
        print("first start:  ", whole)
        print("second start: ", run(folder))
        seconds = float(whole.split()[0])
        for share in (0.25, 0.75):
            for entry in sorted((folder / "cache").iterdir()):
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
            killed = start(folder)
            time.sleep(share * seconds)
            killed.kill()
            killed.communicate()
            left = [entry.name for entry in sorted((folder / "cache").iterdir())]
            again = run(folder)
            after = [entry.name for entry in sorted((folder / "cache").iterdir())]
            print(f"killed at {share:.0%}:", "left", [n for n in left if not n.endswith(".lock")])
            print("  started again:", again)
            assert not any(name.endswith(".tmp") for name in after), after
            assert again.split()[-1] == whole.split()[-1], "other ids after a kill"


def write_text(path: Path, tokens: int) -> int:
    """Write a text of Zipf's law, words from short to long; returns its size in bytes."""
    random = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    # Some 5.2 bytes a token with its space, as in WikiText-103.
    words = np.array([spell(rank, letters) for rank in range(WORDS)], dtype=object)
    words[3] = "<unk>"
    cumulative = np.cumsum(1 / np.arange(1, WORDS + 1))
    with path.open("w") as file:
        for first in range(0, tokens, 1_000_000):
            count = min(1_000_000, tokens - first)
            draws = random.random(count) * cumulative[-1]
            chosen = words[np.searchsorted(cumulative, draws)].tolist()
            step = LINE - 1  # and the line end
            for begin in range(0, count, step):
                file.write(f" {' '.join(chosen[begin : begin + step])} \n")
    return path.stat().st_size


def spell(rank: int, letters: np.ndarray) -> str:
    """A distinct word for a rank."""
    word = "e" if rank % 2 else "th"
    rank += 1
    while rank:
        rank, letter = divmod(rank, 26)
        word += letters[letter]
    return word


def start(folder: Path) -> subprocess.Popen[str]:
    """Open the text in a process of its own."""
    command = [sys.executable, __file__, "--open", str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def run(folder: Path) -> str:
    """What that process reports."""
    process = start(folder)
    output, _ = process.communicate()
    if process.returncode:
        raise SystemExit(f"The process ended with {process.returncode}.")
    return output.strip()


def open_text(folder: Path) -> None:
    """Open the text and report; the import of torch is not part of the time."""
    from define.data import Text

    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begin, work = time.perf_counter(), time.process_time()
    corpus = Text(folder, cache=folder / "cache").open()
    vocabulary, ids = corpus.vocabulary, corpus.split("train")
    seconds, work = time.perf_counter() - begin, time.process_time() - work
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"{seconds:.2f} s, {work:.2f} s on the processor, {len(ids) / seconds:,.0f} tokens/s, "
        f"{peak / 1024:.0f} MB ({before / 1024:.0f} before), V = {len(vocabulary):,}, "
        f"{len(ids):,} ids, fingerprint {corpus.fingerprint}"
    )


if __name__ == "__main__":
    main()
