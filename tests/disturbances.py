"""What `make stress` does to a training: kills, signals, full disks and damage."""

import errno
import itertools
import multiprocessing
import os
import random
import resource
import signal
import sys

from define.__main__ import main
from define.training.module import TrainingModule

NUMBERS = itertools.count()


class Disk:
    """Counts what is done to the files of a folder, and at one operation lets something happen.

    Operations: opening to write, renaming, removing, making a folder. What native code writes
    lies between two of them.

    Args:
        folder: The folder.
        number: Of the operation, from 1.
        how: "kill" before it; "tear" what is about to be synced, then kill; "fill" the disk.
    """

    def __init__(self, folder, number=0, how="", seed=0):
        self.folder, self.number, self.how = str(folder), number, how
        self.draw = random.Random(seed)
        self.count = 0

    def install(self):
        self.notes = os.open(f"{self.folder}/operations", os.O_WRONLY | os.O_CREAT)
        sys.addaudithook(self._hook)

    def _hook(self, event, args):
        writes = event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        if not (writes or event in ("os.rename", "os.remove", "os.mkdir", "os.rmdir")):
            return
        path = os.fsdecode(args[0]) if isinstance(args[0], str | bytes | os.PathLike) else ""
        if not path.startswith(self.folder):
            return
        self.count += 1
        os.write(self.notes, f"{event} {path}\n".encode())
        if not self.number or self.count < self.number:
            return
        if self.how == "fill":
            if writes or event == "os.mkdir":
                raise OSError(errno.ENOSPC, "No space left on device", path)
        elif self.count == self.number:
            if self.how == "tear" and os.path.isfile(path):
                os.truncate(path, self.draw.randrange(os.path.getsize(path) + 1))
            os.kill(os.getpid(), signal.SIGKILL)


def limit_files(size):
    """Lets no file grow beyond a size: what a full disk is to native code."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def signal_in_validation(number, call):
    """Raises a signal in a validation."""
    start, calls = TrainingModule.on_validation_epoch_start, []

    def signalled(self):
        start(self)
        calls.append(None)
        if len(calls) == call:
            signal.raise_signal(number)

    TrainingModule.on_validation_epoch_start = signalled


class Process(multiprocessing.get_context("fork").Process):
    """A command in a fork of this process, with a log and a cache of its own.

    Args:
        arguments: Of `define`.
        folder: Where its log and its cache are.
        before: What it does first.
    """

    def __init__(self, arguments, folder, before=None):
        super().__init__()
        self.arguments, self.before = arguments, before
        self.cache, self.log = folder / "cache", folder / f"log-{next(NUMBERS)}"
        self.start()

    def run(self):
        for stream in (1, 2):
            os.dup2(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), stream)
        os.environ["DEFINE_CACHE"] = str(self.cache)
        if self.before:
            self.before()
        main(self.arguments)

    def end(self):
        """The exit status, negative for a signal, and what was said."""
        self.join(600)
        if self.exitcode is None:
            self.kill()
            raise AssertionError("no end after 600 s")
        return self.exitcode, self.log.read_text(errors="replace")


def damage(file, draw):
    """Flips a bit, cuts a file off or empties it."""
    content = bytearray(file.read_bytes())
    how = draw.choice(["flip", "flip", "cut", "empty"]) if content else "grow"
    if how == "flip":
        content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    elif how == "cut":
        del content[draw.randrange(len(content)) :]
    else:
        content[:] = b"" if how == "empty" else b"\xff"
    file.write_bytes(content)
    return f"{how} {file.name}"
