"""The command line: `define COMMAND ...`."""

import io
import logging
import os
import signal
import sys
from typing import NoReturn

from define import __version__
from define.commands import COMMANDS, load
from define.suggestions import did_you_mean


def main(args: list[str] | None = None) -> None:
    """Runs a command; errors that a user can mend end in one line, not in a traceback."""
    _open_streams()
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    try:
        if command in ("-h", "--help", "help"):
            lines = (f"  {name:<12}{load(name).__doc__}" for name in COMMANDS)
            print("usage: define COMMAND ...\n", *lines, "", sep="\n")
            print("define COMMAND --help says more; define --version says which version this is.")
        elif command == "--version":
            print(f"define {__version__}")
        elif command not in COMMANDS:
            _unknown(command)
        else:
            _run(command, rest)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader, such as head, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError, MemoryError) as error:
        said = "".join(c if c.isprintable() else " " for c in str(error)) or type(error).__name__
        sys.exit(f"define: {said}")
    except RuntimeError as error:
        what = str(error).partition("\n")[0]
        if "out of memory" not in what and "allocate memory" not in what:
            raise  # of torch, which has no other name for all that fails
        sys.exit(f"define: {what}")
    except KeyboardInterrupt:
        print("define: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


def _open_streams() -> None:
    """Gives streams that were closed a place: else a file that is opened takes their number.

    What the encoding of standard output does not know is written with escapes.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")


def _run(command: str, args: list[str]) -> None:
    module = load(command)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("define").setLevel(logging.INFO)
    try:
        from define.arguments import Parser

        module.command(Parser(prog=f"define {command}", description=module.__doc__), args)
    except ModuleNotFoundError as error:
        if (error.name or "define").split(".")[0] == "define":
            raise  # none that could be installed
        sys.exit(
            f"define: {error.name} is not installed: define {command} needs more than the library; "
            "pip install 'define-embeddings[all]' brings it."
        )


def _unknown(command: str) -> NoReturn:
    hint = did_you_mean(command, COMMANDS) or f" The commands are {', '.join(COMMANDS)}."
    raise ValueError(f"unknown command {command!r}.{hint}")


if __name__ == "__main__":
    main()
