"""Grows or shrinks the vocabulary of a model with an embedding of this package."""

from torch import nn
from transformers import PreTrainedModel

from define.embedding import resize as resize_embedding
from define.embedding.tables import resized, table_size
from define.huggingface.head import TiedHead

__all__ = ["resize"]


def resize(model: PreTrainedModel, embedding: nn.Module, size: int, mean: bool) -> None:
    """Resizes embedding, head and configuration to `size` words, in place."""
    if size == table_size(embedding)[0]:
        return
    resize_embedding(embedding, size, mean)
    head = model.get_output_embeddings()
    if isinstance(head, TiedHead):
        if head.bias is not None:
            head.bias = nn.Parameter(resized(head.bias[:, None], size, fill=0.0)[:, 0])
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
