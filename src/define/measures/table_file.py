"""Tables that come as files, from any other program."""

from pathlib import Path

import torch
from torch import Tensor

from define.readers import open_tensors, read_array

__all__ = ["is_checkpoint", "read_table"]


def is_checkpoint(folder: Path) -> bool:
    """Whether a folder looks like a Hugging Face checkpoint, rather than a run of ours."""
    return (folder / "config.json").is_file() and not (folder / "config.yaml").exists()


def read_table(path: str | Path, num_embeddings: int) -> Tensor:
    """Reads an embedding of a vocabulary: (V, m) real numbers, row i for word i.

    Args:
        path: A NumPy array `.npy`, or a `.safetensors` file in which one matrix alone has V rows.
        num_embeddings: Size V of the vocabulary.

    Raises:
        ValueError: If the file is of another kind, or holds no such matrix or several.
        FileNotFoundError: If there is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"The table {path} is neither a run's folder nor a file.")
    if path.suffix == ".npy":
        array = read_array(path)
        found = (
            {"array": torch.from_numpy(array)}
            if array.ndim == 2 and array.dtype.kind == "f"
            else {}
        )
    elif path.suffix == ".safetensors":
        with open_tensors(path) as file:
            names = list(file.keys())
            shapes = {name: file.get_slice(name).get_shape() for name in names}
            fits = [n for n in names if len(shapes[n]) == 2 and shapes[n][0] == num_embeddings]
            found = {name: file.get_tensor(name) for name in fits}
    else:
        raise ValueError(f"The table {path} must be .npy or .safetensors.")
    found = {
        name: table
        for name, table in found.items()
        if len(table) == num_embeddings and table.is_floating_point() and table.numel()
    }
    if len(found) != 1:
        what = f"several, {', '.join(found)}" if found else "none"
        raise ValueError(f"{path} must hold one matrix with {num_embeddings} rows; it has {what}.")
    return next(iter(found.values()))
