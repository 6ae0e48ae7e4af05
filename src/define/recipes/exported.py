"""A trained run as files that need nothing of this package."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import torch
from torch import Tensor, fx, nn

from define.embedding import Embedding
from define.files import atomic_write, new_folder, save_tensors, write_text
from define.models import LanguageModel
from define.models.plain import plain_step, start_state
from define.training import Run

if TYPE_CHECKING:
    from define.recipes.loaded import LoadedRun

__all__ = ["export_run"]

_CODE = '''"""A trained language model. It needs torch and safetensors alone.

    net = load()
    state = net.start(batch=1)
    log_probabilities, *state = net(tokens, *state)  # of the token after each of tokens (batch,)

Ids are the lines of vocabulary.txt, from 0 on{cut}.
Every line ends with id {end}, so does what stands before the first one: begin with it.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import inf  # noqa: F401


class Model(torch.nn.Module):
    """One step: ids (batch,) int64 and a state; log-probabilities (batch, {words}) and a state."""

    def __init__(self, tensors):
        super().__init__()
        for name, tensor in tensors.items():
            self.register_parameter(name, torch.nn.Parameter(tensor, tensor.is_floating_point()))

    def start(self, batch=1):
        """The state before the first token."""
        like = next(self.parameters())
        return [like.new_zeros(shape) for shape in [{start}]]

{code}

def load(folder=Path(__file__).parent):
    """The model with its weights, in evaluation mode."""
    return Model(load_file(Path(folder) / "model.safetensors")).eval()
'''


def export_run(run: "LoadedRun", folder: Path, *, onnx: bool = False) -> list[Path]:
    """Writes a run's vectors, its vocabulary and the whole model.

    For each embedding `NAME.safetensors` (one tensor `weight`), `NAME.npy` and `NAME.txt` (the text
    format of word2vec, which gensim reads). Of a language model `model.safetensors` and `model.py`,
    which says how it is used; with `onnx` also `model.onnx` and `NAME.onnx`. In `model.onnx`,
    `tokens` (batch,) int64 and a state go in, `log_probabilities` (batch, V) and the state after
    it come out; the state begins as zeros, of no length where a dimension is called `memory`.
    Of a translation model the folder of a `MarianMTModel` with its tokenizer; with `onnx` also
    `encoder_model.onnx` and `decoder_model.onnx`.

    Args:
        run: The run.
        folder: A new folder; nothing is left of it if something fails.
        onnx: Whether to write ONNX files, too.

    Returns:
        The files.

    Raises:
        ValueError: If the folder is there already.
    """
    with new_folder(folder) as draft:
        draft.mkdir()
        run.experiment.write_vocabulary(Run(draft))
        for part, module in run.model.named_children():
            if isinstance(module, Embedding | nn.Embedding):
                _write_vectors(module.weight, run.vocabulary.words, draft / part)
                if onnx:
                    from define.huggingface import export_onnx

                    plain = module.to_embedding() if isinstance(module, Embedding) else module
                    export_onnx(plain, draft / f"{part}.onnx")
        if isinstance(run.model, LanguageModel):
            _write_model(run.model, run.experiment.corpus, draft, onnx)
        else:
            from define.translation.marian import write_marian  # imports transformers

            experiment: Any = run.experiment
            write_marian(
                experiment.model, experiment.corpus.tokenizer, draft, experiment.num_beams, onnx
            )
    return sorted(folder.iterdir())


def _write_vectors(weight: Tensor, words: tuple[str, ...], path: Path) -> None:
    table = weight.detach().float().cpu().contiguous()
    _write_tensors({"weight": table}, path.with_suffix(".safetensors"))
    with atomic_write(path.with_suffix(".npy")) as draft, draft.open("wb") as file:
        # Not into the file itself, where numpy does not notice a full disk.
        np.save(cast(BinaryIO, SimpleNamespace(write=file.write)), table.numpy())
    with (
        atomic_write(path.with_suffix(".txt")) as draft,
        draft.open("w", encoding="utf-8") as out,
    ):
        out.write(f"{len(words)} {table.shape[1]}\n")
        for word, row in zip(words, table.tolist(), strict=True):
            # Readers split at every space of Unicode, and words may hold some of those.
            name = "_".join(word.split()) or "_"
            out.write(f"{name} {' '.join(f'{x:.6g}' for x in row)}\n")


def _write_tensors(tensors: dict[str, Tensor], path: Path) -> None:
    with atomic_write(path) as draft:
        save_tensors(tensors, draft)


def _write_model(model: LanguageModel, corpus: Any, folder: Path, onnx: bool) -> None:  # noqa: ANN401
    step, axes = plain_step(model)
    _write_tensors(dict(step.state_dict()), folder / "model.safetensors")
    start = [list(map(str, tensor.shape)) for tensor in start_state(model)]
    for shape in start:
        shape[1] = "batch"
    code = _CODE.format(
        code=_readable(step),
        words=len(corpus.vocabulary),
        end=corpus.end,
        cut=", and those of tokenizer.json" if corpus.tokenizer else "",
        start=", ".join(f"({', '.join(shape)})" for shape in start),
    )
    write_text(folder / "model.py", code)
    if onnx:
        _write_onnx(step, start_state(model, 2), axes, folder / "model.onnx")


def _readable(step: fx.GraphModule) -> str:
    """The code of a step, without what lets go of each value, and for any device."""
    lines = re.sub(r";  .*= None$", "", step.code.strip(), flags=re.MULTILINE).split("\n")
    code = "\n".join(f"    {line}" if line.strip() else "" for line in lines)
    return re.sub(r"device\(type='cpu'\)", "tokens.device", code)


def _write_onnx(
    step: fx.GraphModule, state: list[Tensor], axes: list[list[int]], path: Path
) -> None:
    from define.huggingface.onnx import write_onnx

    names = [f"state_{i}" for i in range(len(state))]
    batch, memory = torch.export.Dim("batch"), torch.export.Dim("memory")
    # An example whose sizes are neither 0 nor 1, which would be taken for fixed ones.
    shapes = [
        [2 if i in found else size for i, size in enumerate(tensor.shape)]
        for tensor, found in zip(state, axes, strict=True)
    ]
    any_size = ({i: batch if i == 1 else memory for i in found} for found in axes)
    with atomic_write(path) as draft:
        write_onnx(
            step,
            (torch.zeros(2, dtype=torch.int64), *map(torch.zeros, shapes)),
            draft,
            input_names=["tokens", *names],
            output_names=["log_probabilities", *(f"new_{name}" for name in names)],
            dynamic_shapes=({0: batch}, *any_size),
        )
