"""From a text to the counts of its words and to their ids, block by block on two processes."""

import hashlib
import os
import pickle
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

from define.data import worker
from define.data.files import read_blocks
from define.data.vocabulary import END_OF_LINE, UNKNOWN, Vocabulary

# Below this size of the file, starting helpers takes longer than they save.
_LARGE = 8 << 20
_HELPERS = 2


def count_words(path: Path) -> Counter[str]:
    """How often each word of a text occurs; each line end counts as ``<eos>``.

    Raises:
        ValueError: If the text is empty, or not UTF-8 (the line is named).
    """
    counts: Counter[bytes] = Counter()
    for part in _work(path, ("count", END_OF_LINE.encode()), f"counting words of {path.name}"):
        counts.update(part)
    return Counter({word.decode(): count for word, count in counts.items()})


def write_ids(path: Path, vocabulary: Vocabulary, target: Path) -> tuple[int, str]:
    """Write the ids of a text, int32 in the order of this machine's bytes.

    Returns:
        The number of ids and a digest of them.

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
        for part in _work(path, job, f"encoding {path.name}"):
            digest.update(part)
            file.write(part)
        length = file.tell() // 4
    return length, digest.hexdigest()[:16]


def _work(path: Path, job: worker.Job, title: str) -> Iterator[Any]:
    """Do a job on each block of a text; results in the order of the text, without the Nones."""
    with ExitStack() as stack:
        helpers: list[_Here | _Helper] = [_Here(job)]
        if path.stat().st_size >= _LARGE and (os.cpu_count() or 1) > 1:
            helpers = [stack.enter_context(_Helper(job)) for _ in range(_HELPERS)]
        waiting: deque[tuple[_Here | _Helper, int]] = deque()
        line = 1

        def receive() -> Any:  # noqa: ANN401
            nonlocal line
            helper, lines = waiting.popleft()
            answer, fault = helper.receive()
            if fault is not None:
                raise ValueError(f"{path}, line {line + fault[0]}: {fault[1]}.")
            line += lines
            return answer

        for number, block in enumerate(read_blocks(path, title)):
            # One block under way for each helper: memory stays bounded, and no two ends of a
            # pipe ever wait for each other.
            if len(waiting) == len(helpers) and (answer := receive()) is not None:
                yield answer
            helper = helpers[number % len(helpers)]
            helper.send(block)
            waiting.append((helper, block.count(b"\n")))
        while waiting:
            if (answer := receive()) is not None:
                yield answer
        for helper in helpers:
            helper.send(None)
            answer, _ = helper.receive()
            if answer is not None:
                yield answer


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
