"""What is done with each block of a text: its words become numbers.

This file is also the program of the helper processes (``python -I worker.py``), so it imports
nothing but the standard library: a helper starts in milliseconds and needs no torch.
"""

import pickle
import sys
from array import array
from typing import Any, Protocol

Job = tuple[str, Any]
"""The name of an operation and its argument."""


Answer = tuple[Any, tuple[int, str] | None]
"""The result for a block, and the fault found in it: its line, from 0, and what is wrong."""


class BadTextError(Exception):
    """A fault of the text: what is wrong, and in which line of the block, from 0."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(line, message)
        self.line = line
        self.message = message


class Operation(Protocol):
    """Takes blocks of whole words one after the other."""

    def feed(self, block: bytes) -> Any:  # noqa: ANN401
        """The result for this block."""

    def finish(self) -> Any:  # noqa: ANN401
        """What there is to say at the end, if anything."""


class Numbering:
    """Turns words into the bytes of int32 numbers, 0, 1, ... in the order of their first use."""

    def __init__(self, end_of_line: bytes) -> None:
        self._end_of_line = end_of_line
        self._numbers = _Numbers()

    def feed(self, block: bytes) -> bytes:
        words = split_words(block, self._end_of_line)
        return array("i", map(self._numbers.__getitem__, words)).tobytes()

    def finish(self) -> list[bytes]:
        """The word of each number."""
        return list(self._numbers)


class _Numbers(dict[bytes, int]):
    """A table in which a missing word gets the next number."""

    def __missing__(self, word: bytes) -> int:
        number = self[word] = len(self)
        return number


class Encoding:
    """Turns words into the bytes of their int32 ids, line ends into the id of ``end_of_line``."""

    def __init__(self, argument: tuple[list[bytes], bytes, bytes]) -> None:
        words, self._unknown, self._end_of_line = argument
        self._ids = _Ids(zip(words, range(len(words)), strict=True))
        self._ids.unknown = self._ids.get(self._unknown)

    def feed(self, block: bytes) -> bytes:
        words = split_words(block, self._end_of_line)
        try:
            return array("i", map(self._ids.__getitem__, words)).tobytes()
        except KeyError as error:
            word = error.args[0]
            line = next(n for n, line in enumerate(block.split(b"\n")) if word in line.split())
            unknown = self._unknown.decode()
            raise BadTextError(
                line,
                f"{word.decode()!r} is not in the vocabulary, and neither is {unknown!r}, which "
                f"would stand for it: add {unknown!r} to the vocabulary",
            ) from None

    def finish(self) -> None:
        return None


class _Ids(dict[bytes, int]):
    """A table of ids in which a missing word has the id ``unknown``, if that is there."""

    unknown: int | None = None

    def __missing__(self, word: bytes) -> int:
        if self.unknown is None:
            raise KeyError(word)
        return self.unknown


def split_words(block: bytes, end_of_line: bytes) -> list[bytes]:
    """The words of a block, with ``end_of_line`` for each line end.

    Words stay bytes, which split and hash without being decoded.

    Raises:
        BadTextError: If the block is not UTF-8.
    """
    try:
        block.decode()
    except UnicodeDecodeError as error:
        raise BadTextError(block.count(b"\n", 0, error.start), f"not UTF-8: {error}") from None
    return block.replace(b"\n", b" " + end_of_line + b" ").split()


def start(job: Job) -> Operation:
    """The operation that a job names."""
    name, argument = job
    return {"number": Numbering, "encode": Encoding}[name](argument)


def answer(operation: Operation, block: bytes | None) -> Answer:
    """Feed one block to an operation, or finish it where there is None."""
    try:
        return (operation.finish() if block is None else operation.feed(block)), None
    except BadTextError as error:
        return None, (error.line, error.message)


def main() -> None:
    """Read a job, then blocks, and answer each; None in place of a block asks for the end.

    Where the process that asks is killed, its end of the pipe closes and this one ends too.
    """
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    try:
        operation = start(pickle.load(source))
        while True:
            block = pickle.load(source)
            pickle.dump(answer(operation, block), sink, protocol=5)
            sink.flush()
    except (EOFError, BrokenPipeError, KeyboardInterrupt, pickle.UnpicklingError):
        pass


if __name__ == "__main__":
    main()
