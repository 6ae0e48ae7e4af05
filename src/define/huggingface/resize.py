"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

from functools import singledispatch
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.embedding.base import table_size
from define.huggingface.head import TiedHead

__all__ = ["resize", "resize_embedding"]


def resize(model: PreTrainedModel, embedding: nn.Module, size: int, mean: bool) -> None:
    """Resizes embedding, head and configuration to `size` words, in place."""
    if size == table_size(embedding)[0]:
        return
    resize_embedding(embedding, size, mean)
    head = model.get_output_embeddings()
    if isinstance(head, TiedHead):
        if head.bias is not None:
            head.bias = nn.Parameter(_resized(head.bias[:, None], size, fill=0.0)[:, 0])
        model.set_output_embeddings(head)  # BERT keeps the bias in a second place
    elif head is not None:
        model.set_output_embeddings(
            model._get_resized_lm_head(head, size, mean_resizing=mean)  # type: ignore[arg-type]
        )
    resize_bias = getattr(model, "_resize_final_logits_bias", None)
    if resize_bias is not None:  # Marian and its relatives
        resize_bias(size)
    config = model.config.get_text_config()
    config.vocab_size = size
    if hasattr(config, "decoder_vocab_size"):
        config.decoder_vocab_size = size
    for module in model.modules():
        if isinstance(module, PreTrainedModel) and "vocab_size" in vars(module):
            module.vocab_size = size
    model.tie_weights()


@singledispatch
def resize_embedding(embedding: nn.Module, size: int, mean: bool) -> None:
    """Changes the number of rows in place: whatever is tied to the embedding stays so.

    Args:
        embedding: The embedding.
        size: New number V of rows.
        mean: Whether new rows start (nearly) at the mean of the old ones.

    Raises:
        ValueError: If the padding row or a band would be cut off.
    """
    raise TypeError(f"{type(embedding).__name__} cannot be resized.")


@resize_embedding.register
def _(embedding: nn.Embedding, size: int, mean: bool) -> None:
    _check(embedding, size)
    weight = embedding.weight
    embedding.weight = nn.Parameter(
        _resized(weight, size, mean=mean), requires_grad=weight.requires_grad
    )
    embedding.num_embeddings = size


@resize_embedding.register(ProjectedEmbedding)
@resize_embedding.register(DeFINE)
def _(embedding: ProjectedEmbedding | DeFINE, size: int, mean: bool) -> None:
    _check(embedding, size)
    resize_embedding(embedding.map, size, mean)
    embedding.num_embeddings = size


@resize_embedding.register
def _(embedding: AdaptiveEmbedding, size: int, mean: bool) -> None:
    _check(embedding, size)
    start = embedding.cutoffs[-1]
    if size <= start:
        raise ValueError(f"{size=} must be above the last of cutoffs={embedding.cutoffs}.")
    table = embedding.tables[-1]
    embedding.tables[-1] = nn.Parameter(
        _resized(table, size - start, mean=mean), requires_grad=table.requires_grad
    )
    embedding.num_embeddings = size


def _check(embedding: nn.Module, size: int) -> None:
    padding_idx = cast(int | None, embedding.padding_idx)
    if size < 1 or (padding_idx is not None and padding_idx >= size):
        raise ValueError(f"{size=} must be at least 1 and above {padding_idx=}.")


@torch.no_grad()
def _resized(table: Tensor, size: int, *, mean: bool = False, fill: float | None = None) -> Tensor:
    """The first rows of a table, and new ones behind them where it grows."""
    if size <= len(table):
        return table[:size].clone()
    new = table.new_empty(size - len(table), table.shape[1])
    if fill is not None:
        new.fill_(fill)
    else:
        wide = table.float()
        if mean:  # as transformers does: no new word is at once likelier than the old ones
            deviation, centre = torch.std_mean(wide, 0, correction=0)
            new.copy_(centre + torch.randn(new.shape, device=new.device) * deviation * 1e-4)
        else:
            new.copy_(torch.randn(new.shape, device=new.device) * wide.std(correction=0))
    return torch.cat([table, new])
