"""Writes embeddings and models as ONNX files."""

import copy
import inspect
import logging
import os
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from define.embedding import Embedding
from define.huggingface.install import TiedHead
from define.huggingface.tables import put

__all__ = ["export_onnx"]

# It says at each export that torchvision is not installed, four times.
logging.getLogger("torch.onnx._internal.exporter._registration").addFilter(
    lambda record: "torchvision" not in record.getMessage()
)

_EXAMPLE = (2, 5)  # batch and time of the ids that the exporter traces with; both are dynamic


class _Model(nn.Module):
    """A model of transformers with tensors as its only arguments and result."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        caches = "use_cache" in inspect.signature(model.forward).parameters
        self.options = {"use_cache": False} if caches else {}

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, **self.options)[0]


def export_onnx(model: nn.Module, path: str | os.PathLike) -> None:
    """Writes a model or an embedding as an ONNX file, with batch and time of any size.

    The factorization stays: the file has the parameters that the model has. For a file with a
    plain table, give ``export(model)`` or ``embedding.to_embedding()``.

    Args:
        model: An embedding (input ``ids``, output ``embeddings``); or a model of transformers
            that reads one sequence, an encoder or a causal model, with or without an embedding of
            this package (inputs ``input_ids`` and ``attention_mask``, int64, both
            (batch, time); output ``logits``, or ``last_hidden_state`` where it has no head).
            Causal models are written without a cache.
        path: The file. Tables above 2 GB would need a second file and are refused.

    Raises:
        TypeError: If the model is neither.
        ValueError: If the model is an encoder and decoder, or a decoder that reads an encoder, or
            the file would be too large.
    """
    size = sum(p.numel() * p.element_size() for p in model.parameters())
    if size >= 2**31:
        raise ValueError(f"The parameters are {size} bytes; one ONNX file holds less than {2**31}.")
    if isinstance(model, PreTrainedModel):
        read = inspect.signature(model.forward).parameters
        decodes = "encoder_hidden_states" in read and (
            getattr(model.config, "is_decoder", False) or type(model).__name__.endswith("Decoder")
        )
        if "decoder_input_ids" in read or (model.config.is_encoder_decoder and decodes):
            raise ValueError(
                f"{type(model).__name__} reads two sequences; export_onnx writes models that read "
                "one, such as the encoder: model.get_encoder()."
            )
        module: nn.Module = _Model(model)
        names = ["input_ids", "attention_mask"]
        output = "last_hidden_state" if model.get_output_embeddings() is None else "logits"
    elif isinstance(model, Embedding | nn.Embedding):
        module, names, output = nn.Sequential(model), ["ids"], "embeddings"
    else:
        raise TypeError(f"{type(model).__name__} must be a model of transformers or an embedding.")
    module = copy.deepcopy(module)
    for name, part in list(module.named_modules(remove_duplicate=False)):
        if isinstance(part, TiedHead) and part.is_computed:  # its table would be, at every call
            put(module, name, part.to_linear())
    module.cpu().eval()
    ids = torch.zeros(_EXAMPLE, dtype=torch.int64)
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("time")}
    write_onnx(
        module,
        (ids, torch.ones_like(ids))[: len(names)],
        path,
        input_names=names,
        output_names=[output],
        dynamic_shapes=tuple(axes for _ in names),
    )


def write_onnx(
    module: nn.Module,
    arguments: tuple[Tensor, ...],
    path: str | os.PathLike,
    **names: Any,  # noqa: ANN401
) -> None:
    """Writes a module that computes with tensors alone; see `torch.onnx.export`."""
    with warnings.catch_warnings():
        # Of torch about its own parts, and about several inputs having the same axes.
        warnings.filterwarnings("ignore", r".*isinstance\(treespec, LeafSpec\)", FutureWarning)
        warnings.filterwarnings("ignore", "# The axis name", UserWarning)
        program = torch.onnx.export(module, arguments, dynamo=True, verbose=False, **names)
    assert program is not None  # None is what the exporter before dynamo gave
    program.save(os.fspath(path))
