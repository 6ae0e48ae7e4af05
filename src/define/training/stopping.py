"""Signals that ask a training to stop: it saves, says so, and goes on another time."""

import os
import signal
import threading
from types import FrameType

__all__ = ["StopSignals", "Stopped"]

# Batch systems send SIGTERM when time is up, or before that SIGUSR1, SIGUSR2 or SIGXCPU. SIGINT is
# Ctrl-C, SIGHUP a terminal or a connection that was closed.
_SIGNALS = ("SIGTERM", "SIGINT", "SIGHUP", "SIGUSR1", "SIGUSR2", "SIGXCPU")


class Stopped(Exception):
    """A signal asked training to stop, and all that it needs to go on is saved.

    Args:
        number: The signal's.
        place: Where training was.
    """

    def __init__(self, number: int, place: str = "") -> None:
        super().__init__(f"stopped{place and ' '}{place}; the same command goes on")
        self.code = 128 + number  # what shells call a process that a signal ended


class StopSignals:
    """Notes the signals while a training runs; within it, a second one ends the process at once.

    Before and after the steps of training a signal raises `Stopped` where it comes: there is
    nothing to save. Handlers that were there come back in the end. What was ignored stays so, as
    under `nohup` and in the background of a script. Outside of the main thread it does nothing:
    signals are not delivered there.

    Attributes:
        received: The signal that was noted.
        waiting: Whether signals are only noted, since somebody looks at `received`.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.waiting = False
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
            handlers = {number: signal.getsignal(number) for number in numbers}
            self._before = {n: h for n, h in handlers.items() if h != signal.SIG_IGN}
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            if handler is not None:  # one that was not set from Python
                signal.signal(number, handler)  # pyright: ignore[reportArgumentType]

    def install(self) -> None:
        """Takes the signals over, again if somebody else did: Lightning does, and ends with 0."""
        for number in self._before:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.received is not None:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.received = number
        if not self.waiting:
            raise Stopped(number)
