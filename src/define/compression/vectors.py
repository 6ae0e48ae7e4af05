"""Tables of word vectors as files: read from any program, kept in few bytes, read back."""

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from define.embedding.description import build, describe
from define.files import atomic_write, save_tensors, write_text
from define.readers import open_tensors, read_array, read_json, read_lines

__all__ = ["load_table", "rank_weights", "read_vectors", "read_weights", "save_table"]

_TENSORS, _DESCRIPTION, _WORDS = "embedding.safetensors", "embedding.json", "words.txt"


def read_vectors(path: Path) -> tuple[Float[Tensor, "rows features"], list[str] | None]:
    """Reads a table of word vectors, and the words where the file has them.

    Args:
        path: A NumPy array `.npy`; a `.safetensors` file, of which the largest matrix is taken;
            word2vec's binary `.bin`; text as word2vec and GloVe write it, a word and its numbers a
            line, with or without a first line of sizes; or gensim's `KeyedVectors` as `save` writes
            them (`.kv`), which may run programs: only where the environment variable
            `DEFINE_MODULES` names gensim.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it holds no table (in a text, the line is named), or is not trusted.
    """
    if not path.is_file():
        raise FileNotFoundError(f"The table {path} is no file.")
    if path.suffix == ".npy":
        return _checked(path, _tensor(path, read_array(path))), None
    if path.suffix == ".safetensors":
        with open_tensors(path) as file:
            tensors = (file.get_tensor(name) for name in file.keys())  # noqa: SIM118
            matrices = [tensor for tensor in tensors if tensor.dim() == 2]
        if not matrices:
            raise ValueError(f"{path} has no matrix.")
        return _checked(path, max(matrices, key=lambda matrix: matrix.numel())), None
    if path.suffix == ".bin":
        return _read_binary(path)
    if path.suffix in (".kv", ".pkl"):
        return _read_gensim(path)
    return _read_text(path)


def _read_binary(path: Path) -> tuple[Tensor, list[str]]:
    """word2vec's: a line of sizes, then each word, a space, and its numbers in float32."""
    with path.open("rb") as file:
        sizes = file.readline(64).split()
        if len(sizes) != 2 or not all(size.isdigit() for size in sizes):
            raise ValueError(f"{path} is no binary file of word2vec: it does not begin with sizes.")
        size, width = map(int, sizes)
        data = bytearray(file.read())
    if size * (4 * width + 1) > len(data) or not size or not width:
        raise ValueError(f"{path} has {len(data):,} bytes, too few for {size:,} rows of {width}.")
    table, words, at = torch.empty(size, width), [], 0
    for row in range(size):
        end = data.find(b" ", at)
        if end < 0 or end + 1 + 4 * width > len(data):
            raise ValueError(f"{path} ends in row {row + 1:,} of {size:,}.")
        # The first program of this format ends each row with a line break.
        words.append(" ".join(data[at:end].decode(errors="replace").split()))
        table[row] = torch.frombuffer(data, dtype=torch.float32, count=width, offset=end + 1)
        at = end + 1 + 4 * width
    return _checked(path, table), words


def _read_gensim(path: Path) -> tuple[Tensor, list[str]]:
    if "gensim" not in os.environ.get("DEFINE_MODULES", "").split(","):
        raise ValueError(
            f"{path}: {path.suffix} files can run programs. If you trust it, set "
            "DEFINE_MODULES=gensim; otherwise write word2vec's format with "
            "save_word2vec_format(path), or numpy.save(path, vectors.vectors)."
        )
    from gensim.models import KeyedVectors  # pyright: ignore[reportMissingImports]

    vectors = KeyedVectors.load(str(path))
    return _checked(path, _tensor(path, vectors.vectors)), list(vectors.index_to_key)


def _read_text(path: Path) -> tuple[Tensor, list[str]]:
    words, rows, size, width = [], [], None, 0
    for number, line in enumerate(read_lines(path, errors="replace"), 1):
        parts = line.rstrip().split(" ")
        if number == 1 and len(parts) == 2 and all(part.isdecimal() for part in parts):
            size, width = map(int, parts)  # word2vec: how many rows and columns
            continue
        if parts == [""]:
            continue
        width = width or len(parts) - 1
        # Some words of GloVe contain spaces.
        numbers = parts[-width:]
        try:
            rows.append(torch.tensor([float(x) for x in numbers]))
        except ValueError:
            width = 0
        if not width or len(parts) <= width:  # a word may be a number too
            what = f"{len(parts) - 1} numbers, not {width}" if width else "not a word and numbers"
            raise ValueError(f"{path}, line {number}: {what}, separated by spaces.")
        words.append(" ".join(parts[:-width]))
    if not rows or size not in (None, len(rows)):
        named = "" if size is None else f", its first line says {size:,}"
        raise ValueError(f"{path} has {len(rows):,} rows{named}.")
    return _checked(path, torch.stack(rows)), words


def _tensor(path: Path, array: Any) -> Tensor:  # noqa: ANN401
    if array.dtype.kind != "f":
        hint = ", as bfloat16 is written: save it as float32" if array.dtype.kind == "V" else ""
        raise ValueError(f"{path} must hold a matrix of real numbers, not {array.dtype}{hint}.")
    return torch.from_numpy(array)


def _checked(path: Path, table: Tensor) -> Tensor:
    if table.dim() != 2 or not table.is_floating_point() or not table.numel():
        raise ValueError(
            f"{path} must hold a matrix of real numbers, not {table.dtype} {tuple(table.shape)}."
        )
    return table.float()


def rank_weights(num_embeddings: int) -> Float[Tensor, " num_embeddings"]:
    """Zipf's law for a vocabulary that is sorted by frequency, as most tokenizers' nearly are."""
    return 1 / torch.arange(10.0, num_embeddings + 10, dtype=torch.float64)


def read_weights(path: Path) -> Tensor:
    """Numbers from a text file, one a line, in the order of ids.

    Raises:
        ValueError: If a line is no number.
    """
    numbers = []
    for number, line in enumerate(read_lines(path), 1):
        try:
            numbers.append(float(line))
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line.strip()!r} is no number.") from None
    return torch.tensor(numbers, dtype=torch.float64)


def save_table(folder: Path, embedding: nn.Module, words: Sequence[str] | None = None) -> None:
    """Writes an embedding, and its words one a line, to a new folder."""
    folder.mkdir(parents=True)
    with atomic_write(folder / _TENSORS) as draft:
        save_tensors(embedding.state_dict(), draft)
    write_text(folder / _DESCRIPTION, json.dumps(describe(embedding)) + "\n")
    if words is not None:
        write_text(folder / _WORDS, "".join(f"{word}\n" for word in words))


def load_table(folder: str | Path) -> tuple[Any, list[str] | None]:
    """Reads what :func:`save_table` wrote: the embedding, and its words if there are some.

    Example:
        >>> import tempfile
        >>> from define import RoundedEmbedding
        >>> embedding = RoundedEmbedding.from_pretrained(torch.randn(50, 8), bits=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_table(Path(folder, "small"), embedding)
        ...     loaded, _ = load_table(Path(folder, "small"))
        >>> torch.equal(loaded.weight, embedding.weight)
        True
    """
    folder = Path(folder)
    embedding = build(read_json(folder / _DESCRIPTION))
    with open_tensors(folder / _TENSORS) as file:
        embedding.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
    words = folder / _WORDS
    return embedding, [*read_lines(words)] if words.is_file() else None
