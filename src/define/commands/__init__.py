"""The commands, one a file: its docstring is its help, its `command` adds arguments and runs.

Each imports what it needs when it runs, so that help needs no torch.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser
else:  # only named: help is there without it
    ArgumentParser = object

__all__ = ["COMMANDS", "ArgumentParser", "load"]

COMMANDS = (
    "train",
    "runs",
    "evaluate",
    "generate",
    "translate",
    "compare",
    "analyze",
    "parameters",
    "embeddings",
    "suggest",
    "cutoffs",
    "compress",
    "export",
)
"""Names of the commands in the order of the help."""


def load(name: str) -> ModuleType:
    """The module of a command."""
    return import_module(f"define.commands.{name}")
