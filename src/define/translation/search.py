"""Sentences translated by a trained model, by beam search."""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from tqdm import tqdm

from define.data import Subwords
from define.translation.marian import search_config
from define.translation.model import TranslationModel

__all__ = ["translate"]

logger = logging.getLogger("define")


@torch.no_grad()
def translate(
    model: TranslationModel,
    tokenizer: Subwords,
    lines: Sequence[str],
    *,
    num_beams: int,
    batch_size: int,
    title: str | None = None,
) -> list[str]:
    """Translates sentences, those of similar length together; the order of the lines is kept.

    Beam search divides scores by length. A line without words stays empty. A line that the model
    has not places for is cut, with a warning that says so.

    Args:
        model: The model, which is left in evaluation mode.
        tokenizer: Of both languages.
        lines: Sentences.
        num_beams: Width of the search; 1 takes the likeliest token each time.
        batch_size: Sentences at a time.
        title: Name of a progress bar on standard error; none if omitted.

    Raises:
        ValueError: If an argument is below 1.
    """
    if num_beams < 1 or batch_size < 1:
        raise ValueError(f"{num_beams=} and {batch_size=} must be at least 1.")
    device = next(model.parameters()).device
    ids, longest = tokenizer.encode(lines), model.config.max_position_embeddings
    for number, row in enumerate(ids, 1):
        if len(row) > longest:
            logger.warning(
                "Line %d has %d tokens: only the first %d are translated.",
                *(number, len(row) - 1, longest - 1),
            )
            row[longest - 1 :] = [tokenizer.end]
    texts = [""] * len(lines)
    order = sorted((i for i, row in enumerate(ids) if len(row) > 1), key=lambda i: len(ids[i]))
    marian: Any = model.eval().to_marian().eval()
    parts = [order[start : start + batch_size] for start in range(0, len(order), batch_size)]
    for part in tqdm(reversed(parts), title, len(parts), disable=None if title else True):
        width = len(ids[part[-1]])
        rows = [[*ids[i], *[tokenizer.padding] * (width - len(ids[i]))] for i in part]
        source = torch.tensor(rows, device=device)
        found = marian.generate(
            source,
            attention_mask=(source != tokenizer.padding).long(),
            generation_config=search_config(tokenizer, num_beams, min(longest, 2 * width + 20)),
        )
        for i, text in zip(part, tokenizer.decode(found[:, 1:].tolist()), strict=True):
            texts[i] = text
    return texts
