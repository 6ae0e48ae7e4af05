"""The settings of a run, which may be a stranger's: read, and refused where they would do harm."""

import os
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from define.readers import read_text, read_yaml

__all__ = ["HEAD", "check_names", "read_settings"]

HEAD = "# recipe: "
"""How `config.yaml` of a run begins; the name of its recipe follows."""

_OURS = re.compile(r"define(\.\w+)*|torch\.(nn|optim)(\.\w+)+")
_DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")


def read_settings(config: Path) -> tuple[str | None, dict[str, Any]]:
    """Recipe and settings of a run from its `config.yaml`; no recipe where it is another file.

    Raises:
        ValueError: If it is damaged; it is named.
    """
    first = read_text(config).partition("\n")[0]
    if not first.startswith(HEAD):
        return None, {}
    settings = read_yaml(config)
    if not isinstance(settings, dict):
        raise ValueError(f"{config} is damaged: it holds no settings.")
    if not isinstance(settings.get("training", {}), dict):
        raise ValueError(f"{config} is damaged: its training is no settings.")
    return first.removeprefix(HEAD), settings


def check_names(config: Path, settings: object, given: object = None) -> None:
    """Refuses settings that name a class or function of other modules.

    What settings name is imported and called. Classes of `define`, `torch.nn` and `torch.optim` do
    no harm; modules that are your own are named in the environment variable `DEFINE_MODULES`,
    separated by commas.

    Args:
        config: The file, for the error.
        settings: What was read from it, as plain Python objects.
        given: Settings that the user gave: what they name is trusted.

    Raises:
        ValueError: If there is such a name.
    """
    trusted = [name for name in os.environ.get("DEFINE_MODULES", "").split(",") if name]
    for text in {*_strings(settings)} - {*_strings(given)}:
        if _DOTTED.fullmatch(text) and not _is_ours(text):
            top = text.partition(".")[0]
            if top not in trusted and (top == "torch" or find_spec(top) is not None):
                raise ValueError(
                    f"{config} names {text!r}, which is of no module of define, torch.nn or "
                    "torch.optim: it would be imported and called. If you trust it, set "
                    f"DEFINE_MODULES={top}."
                )


def _is_ours(name: str) -> bool:
    try:  # what a module of ours has imported is not ours: `define.files.os.abort`
        return bool(_OURS.fullmatch(name) and find_spec(name.rpartition(".")[0]))
    except ModuleNotFoundError:
        return False


def _strings(tree: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _strings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _strings(value)
