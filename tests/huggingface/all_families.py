"""Every type of model that the installed transformers knows: right, refused, or not tried and why.

`python tests/huggingface/all_families.py docs/guide/families.md` writes the documentation's table.
"""

import json
import re
import subprocess
import sys
import tempfile
import traceback
import warnings
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from families import auto_class, tiny_model
from transformers import CONFIG_MAPPING
from transformers.utils import logging
from walk import reload, walk

from define.huggingface.tables import input_tables
from define.huggingface.twins import output, tiny_batch

GROUP = 20  # types in one process
RIGHT, REFUSED, NOT_TRIED, WRONG = "right", "refused", "not tried", "WRONG"
HEAD = """# Families of models

What `replace_embedding`, training, saving, loading, generating, resizing and `export` gave for a
tiny random model of each type that transformers {version} knows, with the numbers compared at each
step. Written by `python tests/huggingface/all_families.py docs/guide/families.md`; `pytest -m slow`
checks the same.

{right} types are right, {refused} are refused with the sentence given here, {not_tried} were not
tried: they read no text (and are left out here), or a tiny one does not run on a few tokens alone.

What is right but not resized, transformers does not resize either: a plain `cpmant` that was
resized cannot be loaded (behind the words its table has prompts), a plain `deepseek_v4` fails for
new ids (it chooses experts by them).

| type | class | result |
| --- | --- | --- |
"""


def tried(model_type: str, folder: Path) -> tuple[str, str, str]:
    """Class, result and words for one type."""
    try:
        cls = auto_class(model_type)[1]
        if cls is None:
            return "", NOT_TRIED, "no auto class makes it"
        model = tiny_model(model_type)
    except Exception as error:  # noqa: BLE001  # of any model's code
        return "", NOT_TRIED, f"not built: {first_line(error)}"
    name = cls.__name__
    try:
        if not input_tables(model):
            return name, NOT_TRIED, "reads no text"
        output(model, tiny_batch(model))
    except ValueError as error:
        if "define" not in traceback.extract_tb(error.__traceback__)[-1].filename:
            return name, NOT_TRIED, f"does not run on tokens alone: {first_line(error)}"
        return name, REFUSED, first_line(error)
    except Exception as error:  # noqa: BLE001
        return name, NOT_TRIED, f"does not run on tokens alone: {first_line(error)}"
    try:
        refused = walk(model_type, folder)
    except ImportError as error:
        return name, NOT_TRIED, first_line(error)
    except AssertionError as error:
        return name, WRONG, first_line(error)
    except Exception as error:  # noqa: BLE001
        frames = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
        file = traceback.extract_tb(error.__traceback__)[-1].filename
        # By us, or by transformers where a model is made anew from its configuration.
        ours = "src/define" in file or "_check_and_adjust_attn_implementation" in frames
        known = ours and isinstance(error, ValueError | TypeError)
        return name, REFUSED if known else WRONG, f"{type(error).__name__}: {first_line(error)}"
    return name, RIGHT, f"but not resized: {first_line(refused)}" if refused else ""


def first_line(error: Exception | str) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    text = re.sub(r" from '/[^']*'?", "", text)  # where modules are on this machine
    return (text[:160] + " …" if len(text) > 160 else text).replace("|", "\\|")


def sweep(types: Sequence[str], progress: bool = False) -> dict[str, tuple[str, str, str]]:
    """Result of each type. Some take much memory, and none gives all back: a process for a few."""
    found, left = {}, list(types)
    while left:
        group, left = left[:GROUP], left[GROUP:]
        command = [sys.executable, str(Path(__file__)), "-", *group]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('["')]
        found |= {model_type: tuple(row) for model_type, *row in rows}
        if done.returncode:
            last = next((t for t in group if t not in found), group[-1])
            found[last] = ("", WRONG, f"the process ends with {done.returncode}")
            left = [t for t in group if t not in found] + left
        if progress:
            for model_type in group:
                print(model_type, *found.get(model_type, ()), flush=True)
    return found


def sweep_here(types: Sequence[str]) -> None:
    """Prints a line of JSON for each type; what was saved is loaded in another process."""
    with tempfile.TemporaryDirectory() as root:
        saved = []
        for model_type in types:
            (folder := Path(root, model_type)).mkdir()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                row = (model_type, *tried(model_type, folder))
            print(json.dumps(row), flush=True)
            saved += [folder] if row[2] == RIGHT else []
        for model_type, problem in reload(saved).items():
            row = (model_type, "", WRONG, f"loaded: {first_line(problem)}")
            print(json.dumps(row), flush=True)


def table(found: dict[str, tuple[str, str, str]]) -> str:
    counts = {r: sum(row[1] == r for row in found.values()) for r in (RIGHT, REFUSED, NOT_TRIED)}
    head = HEAD.format(
        version=version("transformers"),
        right=counts[RIGHT],
        refused=counts[REFUSED],
        not_tried=counts[NOT_TRIED],
    )
    order = sorted(found, key=lambda t: ((WRONG, REFUSED, RIGHT, NOT_TRIED).index(found[t][1]), t))
    lines = []
    for model_type in order:
        name, result, words = found[model_type]
        if words in ("reads no text", "no auto class makes it"):
            continue
        cells = (f"`{model_type}`", name and f"`{name}`", ": ".join(filter(None, (result, words))))
        lines.append(f"| {' | '.join(cells)} |")
    return head + "\n".join(lines) + "\n"


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    page, *types = sys.argv[1:]
    if page == "-":
        sweep_here(types)
    else:
        text = table(sweep(types or sorted(CONFIG_MAPPING), progress=True))
        Path(page).write_text(text, encoding="utf-8")
