"""What a model computes for a sample of text, before and after its table was changed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from define.huggingface.check import evaluating

__all__ = [
    "Change",
    "Readings",
    "count_tokens",
    "default_sample",
    "is_causal",
    "read_sample",
    "token_batch",
]

_BATCH = 1000  # lines given to a tokenizer at a time
_LINES = 16  # in one forward pass


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, lines: Iterable[str], num_embeddings: int
) -> Float[Tensor, " num_embeddings"]:
    """How often a tokenizer gives each id for a text, with its line ends and what it puts around.

    Where the end of a line is a token, it is the most frequent one of many texts.

    Raises:
        ValueError: If there is no line.
    """
    counts = torch.zeros(num_embeddings, dtype=torch.float64)
    remaining = iter(lines)
    while batch := list(islice(remaining, _BATCH)):
        ended = [f"{line}\n" for line in batch]
        for ids in cast(Any, tokenizer)(ended, verbose=False)["input_ids"]:
            counts += torch.bincount(torch.tensor(ids, dtype=torch.int64), minlength=num_embeddings)
    if not counts.any():
        raise ValueError("The text has no tokens to count.")
    return counts


def default_sample() -> list[str]:
    """Sentences of the help topics of the Python that is running."""
    from pydoc_data.topics import topics

    paragraphs = "\n\n".join(topics[name] for name in sorted(topics)).split("\n\n")
    lines = (" ".join(part.split()) for part in paragraphs)
    return [line for line in lines if line[:1].isupper() and 80 < len(line) < 400][:128]


@dataclass(frozen=True)
class Readings:
    """What a model gives for a sample.

    Args:
        perplexity: Of the tokens, where the model has a causal head; None if not.
        vectors: Mean of the last hidden states of each line (lines, m), of length 1.
    """

    perplexity: float | None
    vectors: Float[Tensor, "lines features"]


@dataclass(frozen=True)
class Change:
    """How far outputs for a sample moved.

    Args:
        perplexity: Before and after; None without a causal head.
        distance: Mean of 1 - cos between mean-pooled hidden states of a line before and after.
    """

    perplexity: tuple[float, float] | None
    distance: float

    @classmethod
    def between(cls, before: Readings, after: Readings) -> "Change":
        """The change from one model to another over the same lines."""
        pair = None
        if before.perplexity is not None and after.perplexity is not None:
            pair = before.perplexity, after.perplexity
        cosines = (before.vectors * after.vectors).sum(1)
        return cls(pair, float(1 - cosines.mean()))

    @property
    def is_large(self) -> bool:
        """Whether a user should look twice: perplexity by a half, or 1 - cos above 0.1."""
        if self.perplexity is not None:
            return not self.perplexity[1] <= 1.5 * self.perplexity[0]  # NaN too
        return not self.distance <= 0.1

    def __str__(self) -> str:
        text = f"1 - cos of mean-pooled hidden states {self.distance:.4f}"
        if self.perplexity is None:
            return text
        before, after = self.perplexity
        return f"perplexity {before:.2f} -> {after:.2f} ({after / before:.2f} times), {text}"


@torch.no_grad()
def read_sample(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    max_length: int = 128,
) -> Readings:
    """Runs a model over a sample of text, each line for itself.

    Raises:
        ValueError: If there is no line.
    """
    if not lines:
        raise ValueError("A sample needs at least one line.")
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    max_length = min(max_length, positions or max_length)
    total, count = 0.0, 0
    vectors = []
    causal = is_causal(model)
    with evaluating(model):
        for first in range(0, len(lines), _LINES):
            batch = token_batch(tokenizer, lines[first : first + _LINES], max_length, model.device)
            mask = batch["attention_mask"]
            part = model.get_encoder() if model.config.is_encoder_decoder else model.base_model
            hidden = cast(Any, part)(**batch).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors.append(torch.nn.functional.normalize(pooled.float(), dim=1))
            if causal:
                logits = cast(Any, model)(**batch).logits[:, :-1].float()
                targets, seen = batch["input_ids"][:, 1:], mask[:, 1:].bool()
                nll = torch.nn.functional.cross_entropy(logits[seen], targets[seen])
                total, count = total + float(nll) * int(seen.sum()), count + int(seen.sum())
    perplexity = exp(min(total / count, 700)) if count else None
    return Readings(perplexity, torch.cat(vectors))


def is_causal(model: PreTrainedModel) -> bool:
    """Whether a model gives the next word's logits for a text alone."""
    head = model.get_output_embeddings()
    return head is not None and model.can_generate() and not model.config.is_encoder_decoder


def token_batch(
    tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], max_length: int, device: torch.device
) -> dict[str, Tensor]:
    """Ids and mask, padded behind the longest line with whatever the tokenizer pads with."""
    rows = cast(Any, tokenizer)(list(lines), truncation=True, max_length=max_length)["input_ids"]
    rows = [row or [0] for row in rows]
    longest, padding = max(map(len, rows)), tokenizer.pad_token_id or 0
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device)}
