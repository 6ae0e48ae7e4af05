"""The command line: `define COMMAND ...`."""

import logging
import sys

from define.commands import COMMANDS, load


def main(args: list[str] | None = None) -> None:
    """Runs a command; errors that a user can mend end in one line, not in a traceback."""
    command, *rest = (sys.argv[1:] if args is None else args) or ["--help"]
    if command in ("-h", "--help"):
        lines = (f"  {name:<12}{load(name).__doc__}" for name in COMMANDS)
        print("usage: define COMMAND ...\n", *lines, "", sep="\n")
        print("define COMMAND --help says more.")
        return
    if command not in COMMANDS:
        sys.exit(f"define: unknown command {command!r}; it is one of {', '.join(COMMANDS)}.")
    module = load(command)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("define").setLevel(logging.INFO)
    try:
        from jsonargparse import ArgumentParser

        parser = ArgumentParser(prog=f"define {command}", description=module.__doc__)
        module.command(parser, rest)
    except ModuleNotFoundError as error:
        if (error.name or "define").split(".")[0] == "define":
            raise  # none that could be installed
        sys.exit(
            f"define: {error.name} is not installed: define {command} needs more than the library; "
            "pip install 'define-embeddings[all]' brings it."
        )
    except (ValueError, IndexError, TypeError, ArithmeticError, OSError) as error:
        sys.exit(f"define: {error}")
    except KeyboardInterrupt:
        sys.exit("define: interrupted")


if __name__ == "__main__":
    main()
