"""From a text to a vocabulary and ids, block by block on two processes."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path
from typing import Any, Self

import numpy as np

from define.data import worker
from define.data.files import read_blocks
from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary

# Below this size of the file, starting helpers takes longer than they save.
_LARGE = 8 << 20
_HELPERS = 2


def write_ids(path: Path, vocabulary: Vocabulary, target: Path) -> str:
    """Write the ids of a text into ``target``, int32 in the order of this machine's bytes.

    Returns:
        A digest of the ids.

    Raises:
        ValueError: If the text is empty, is not UTF-8, or has a word that the vocabulary lacks
            while it lacks ``<unk>`` too (word, file and line are named).
    """
    if END_OF_LINE not in vocabulary:
        raise ValueError(
            f"The vocabulary of {len(vocabulary)} words has no {END_OF_LINE!r}, which ends every "
            f"line of {path}: add it."
        )
    words = [word.encode() for word in vocabulary.words]
    job = ("encode", (words, UNKNOWN.encode(), END_OF_LINE.encode()))
    digest = hashlib.sha256()
    with target.open("wb") as file:
        for _, ids in _work(path, job, f"encoding {path.name}"):
            if ids is not None:
                digest.update(ids)
                file.write(ids)
    return digest.hexdigest()[:16]


def learn_ids(
    path: Path, choose: Callable[[Mapping[str, int]], Vocabulary], target: Path
) -> tuple[Vocabulary, str]:
    """Make a vocabulary from a text and write the ids of the text, reading it only once.

    Looking words up is what takes the time. So each helper numbers the words as they come, these
    numbers are written and counted, and once all counts are known the numbers in the file are
    replaced by ids.

    Args:
        path: The text.
        choose: Makes the vocabulary from the counts of words; each line end counts as ``<eos>``.
        target: As for `write_ids`.

    Returns:
        The vocabulary, and a digest of the ids.

    Raises:
        ValueError: If the text is empty, or is not UTF-8 (file and line are named).
    """
    blocks: list[tuple[int, int]] = []  # for each, which helper numbered how many words
    words: dict[int, list[str]] = {}  # for each helper, the word of each number
    job = ("number", END_OF_LINE.encode())
    with target.open("wb") as file:
        for helper, part in _work(path, job, f"reading {path.name}"):
            if isinstance(part, bytes):
                file.write(part)
                blocks.append((helper, len(part)))
            else:
                words[helper] = [word.decode() for word in part]
    digest = hashlib.sha256()
    with target.open("r+b") as file:
        tallies = {helper: np.zeros(len(words[helper]), np.int64) for helper in words}
        for helper, size in blocks:
            numbers = np.frombuffer(file.read(size), np.int32)
            tallies[helper] += np.bincount(numbers, minlength=len(tallies[helper]))
        counts: Counter[str] = Counter()
        for helper, tally in tallies.items():
            counts.update(dict(zip(words[helper], tally.tolist(), strict=True)))
        vocabulary = choose(counts)
        ids = {helper: np.array(vocabulary.encode(words[helper]), np.int32) for helper in words}
        file.seek(0)
        for helper, size in blocks:
            place = file.tell()
            part = ids[helper][np.frombuffer(file.read(size), np.int32)].tobytes()
            file.seek(place)
            file.write(part)
            digest.update(part)
    return vocabulary, digest.hexdigest()[:16]


def _work(path: Path, job: worker.Job, title: str) -> Iterator[tuple[int, Any]]:
    """Do a job on each block of a text.

    Yields:
        The number of a helper and its result: for each block in the order of the text, then for
        each helper what it has at the end.
    """
    with ExitStack() as stack:
        helpers: list[_Here | _Helper] = [_Here(job)]
        if path.stat().st_size >= _LARGE and (os.cpu_count() or 1) > 1:
            helpers = [stack.enter_context(_Helper(job)) for _ in range(_HELPERS)]
        waiting: deque[tuple[int, int]] = deque()  # helpers at work and the lines of their blocks
        line = 1

        def receive() -> tuple[int, Any]:
            nonlocal line
            number, lines = waiting.popleft()
            result, fault = helpers[number].receive()
            if fault is not None:
                raise ValueError(f"{path}, line {line + fault[0]}: {fault[1]}.")
            line += lines
            return number, result

        for number, block in zip(cycle(range(len(helpers))), read_blocks(path, title)):
            # One block under way for each helper: memory stays bounded, and the two ends of a
            # pipe never wait for each other.
            if len(waiting) == len(helpers):
                yield receive()
            helpers[number].send(block)
            waiting.append((number, block.count(b"\n")))
        while waiting:
            yield receive()
        for number, helper in enumerate(helpers):
            helper.send(None)
            yield number, helper.receive()[0]


class _Here:
    """Does a job in this process."""

    def __init__(self, job: worker.Job) -> None:
        self._operation = worker.start(job)

    def send(self, block: bytes | None) -> None:
        self._answer = worker.answer(self._operation, block)

    def receive(self) -> worker.Answer:
        return self._answer


class _Helper:
    """Does a job in a process of its own.

    A program rather than `multiprocessing`: fork is not safe beside torch's threads, spawn and
    forkserver import the user's script (which then needs its ``if __name__ ...`` guard) and torch
    again in every process. If this process is killed, the helper's pipe closes and it ends.
    """

    def __init__(self, job: worker.Job) -> None:
        command = [sys.executable, "-I", worker.__file__]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe)
        self._sink, self._source = self._process.stdin, self._process.stdout
        self.send(job)

    def send(self, message: object) -> None:
        assert self._sink is not None
        with self._naming_death():
            pickle.dump(message, self._sink, protocol=5)
            self._sink.flush()

    def receive(self) -> worker.Answer:
        assert self._source is not None
        with self._naming_death():
            return pickle.load(self._source)

    @contextmanager
    def _naming_death(self) -> Iterator[None]:
        try:
            yield
        except (EOFError, BrokenPipeError) as error:
            code = self._process.wait()
            raise RuntimeError(f"A helper process died with exit status {code}.") from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
