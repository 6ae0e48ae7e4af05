"""What a checkpoint's folder holds besides the model: tokenizers, a README, how to load it."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from define.embedding.base import table_size
from define.huggingface.install import places_of
from define.readers import BYTE_ORDER_MARK

__all__ = [
    "LOADER",
    "carry_files",
    "check_tokenizer",
    "read_tokenizer",
    "write_companions",
    "write_readme",
]

LOADER = "modeling_define.py"
_LOADER_TEXT = '''"""Finds the package that this checkpoint needs, with `trust_remote_code=True`."""

try:
    from define.huggingface import DefineConfig  # noqa: F401
except ImportError as error:
    raise ImportError(
        "This checkpoint has an embedding of the package define-embeddings: "
        "pip install 'define-embeddings[huggingface]'"
    ) from error
'''
# What another model writes anew, or what is its weights in another form.
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".h5", ".msgpack", ".gguf", ".onnx", ".ot")
_OWN = ("config.json", "generation_config.json", "README.md", LOADER)
_FOREIGN = ("onnx", "openvino", "coreml", ".git", ".cache")


def carry_files(source: str | os.PathLike, target: str | os.PathLike) -> list[str]:
    """Copies all that a checkpoint's folder holds besides the model's weights and configuration.

    Tokenizers, processors, chat templates, and what sentence-transformers keeps: its list of
    modules, pooling, normalization, maximal length. Weights of further modules (a dense layer
    behind the pooling) are in folders of their own and are copied too.

    Returns:
        The names of the files, relative to the folder.
    """
    source, target = Path(source), Path(target)
    names = []
    for path in sorted(source.rglob("*")):
        name = path.relative_to(source)
        own = len(name.parts) == 1 and (
            name.name in _OWN or name.suffix in _WEIGHTS or name.name.endswith(".index.json")
        )
        if path.is_file() and not own and name.parts[0] not in _FOREIGN:
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / name)
            names.append(str(name))
    return names


def read_tokenizer(folder: str | os.PathLike, **options: Any) -> Any:  # noqa: ANN401
    """The tokenizer of a checkpoint's folder, also where its files begin with byte-order marks.

    transformers takes such a mark in `vocab.txt` for part of the first word, and refuses it in
    `tokenizer.json`.

    Args:
        folder: Of the checkpoint.
        options: Of `AutoTokenizer.from_pretrained`.
    """
    folder = Path(folder)
    marked = [path for path in folder.iterdir() if path.suffix in (".json", ".txt")]
    if not any(map(_is_marked, marked)):
        return AutoTokenizer.from_pretrained(folder, **options)
    with TemporaryDirectory() as name:
        carry_files(folder, name)
        shutil.copyfile(folder / "config.json", Path(name, "config.json"))
        for path in filter(_is_marked, Path(name).iterdir()):
            path.write_bytes(path.read_bytes().removeprefix(BYTE_ORDER_MARK))
        return AutoTokenizer.from_pretrained(name, **options)


def _is_marked(path: Path) -> bool:
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK


def check_tokenizer(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Checks that every id of a tokenizer has a row in the model's input embedding.

    Args:
        model: The model, plain or with an embedding of this package.
        tokenizer: The tokenizer, with its added tokens.

    Raises:
        ValueError: If the tokenizer is larger than the table, or pads with another id.
    """
    rows, _ = table_size(model.get_input_embeddings())
    largest = max(tokenizer.get_vocab().values(), default=-1)
    if largest >= rows:
        raise ValueError(
            f"The tokenizer has ids up to {largest}, {len(tokenizer)} in all, the embedding of "
            f"{type(model).__name__} has {rows} rows: call "
            f"resize_token_embeddings({largest + 1}) first."
        )
    padding_idx = model.get_input_embeddings().padding_idx
    pad_token_id = tokenizer.pad_token_id
    if None not in (padding_idx, pad_token_id) and padding_idx != pad_token_id:
        raise ValueError(f"{pad_token_id=} of the tokenizer must be the model's {padding_idx=}.")


def write_companions(folder: str | os.PathLike, model: PreTrainedModel) -> None:
    """Writes beside a model's weights how to load it, with and without importing this package."""
    folder = Path(folder)
    (folder / LOADER).write_text(_LOADER_TEXT, encoding="utf-8")
    if not (folder / "README.md").exists():
        write_readme(folder, model)


def write_readme(
    folder: str | os.PathLike,
    model: PreTrainedModel,
    lines: Sequence[str] = (),
    picture: str | None = None,
) -> None:
    """Writes a model card: what the embedding is, how to load it, and what else is to say.

    Args:
        folder: Of the checkpoint.
        model: A model with an embedding of this package.
        lines: What was done and what it cost, such as the lines of a compression's report.
        picture: Name of a figure of that, in the folder.
    """
    base = type(model).__name__.removeprefix("Define")
    what = []
    for place in places_of(model):
        what += [f"`{place.name}`:", "", "```text", str(place.embedding(model)), "```", ""]
    report = ["## What was done, and what it cost", "", "```text", *lines, "```", ""]
    report += [] if picture is None else [f"![{picture}]({picture})", ""]
    text = [
        "---",
        "library_name: transformers",
        "tags:",
        "- define-embeddings",
        "---",
        "",
        f"# {base} with embeddings of define-embeddings",
        "",
        "Its token table is computed from a smaller one.",
        "",
        *what,
        *(report if lines else []),
        "## Loading",
        "",
        "`pip install 'define-embeddings[huggingface]'`, then",
        "",
        "```python",
        "import define.huggingface  # the auto classes then know this model",
        "from transformers import AutoModel  # or AutoModelForCausalLM, ...",
        "",
        'model = AutoModel.from_pretrained("FOLDER")',
        "```",
        "",
        "or without the import: `AutoModel.from_pretrained(FOLDER, trust_remote_code=True)`.",
        "`define.huggingface.export(model)` gives a plain model that any program loads.",
        "",
    ]
    Path(folder, "README.md").write_text("\n".join(text), encoding="utf-8")
