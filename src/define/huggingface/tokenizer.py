"""Whether a tokenizer fits a model."""

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from define.embedding.base import table_size

__all__ = ["check_tokenizer"]


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
