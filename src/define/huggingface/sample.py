"""What a model computes for a sample of text, and what errors in its tables do to that."""

import inspect
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import exp
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from define.huggingface.tables import Table
from define.huggingface.twins import evaluating

__all__ = ["Change", "Readings", "count_tokens", "default_sample", "read_sample", "sensitivity"]

_BATCH = 1000  # lines given to a tokenizer at a time
_READ, _TRACED = 16, 4  # lines in one forward pass, and in one that is traced back
_TOKENS = 128  # of a line that are read
_EQUAL = 0.05  # of the metric: directions that a sample has not moved count a little


def count_tokens(
    tokenizer: PreTrainedTokenizerBase, lines: Iterable[str], num_embeddings: int
) -> Float[Tensor, " num_embeddings"]:
    """How often a tokenizer gives each id for a text, with its line ends and what it puts around.

    Where the end of a line is a token, it is the most frequent one of many texts.
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
    """What a model gives for a sample."""

    perplexity: float | None  # None without a causal head
    vectors: Float[Tensor, "lines features"]  # means of the last hidden states, of length 1


@dataclass(frozen=True)
class Change:
    """How far outputs for a sample moved."""

    perplexity: tuple[float, float] | None  # before and after
    distance: float  # mean of 1 - cos between vectors of a line before and after

    @classmethod
    def between(cls, before: Readings, after: Readings) -> "Change":
        """The change from one model to another over the same lines."""
        pair = None
        if before.perplexity is not None and after.perplexity is not None:
            pair = before.perplexity, after.perplexity
        cosines = (before.vectors * after.vectors).sum(1)
        return cls(pair, float((1 - cosines.mean()).clamp_min(0)))

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
) -> Readings:
    """Runs a model over a sample of text, each line for itself."""
    if not lines:
        raise ValueError("A sample needs at least one line.")
    total, count = 0.0, 0
    vectors = []
    causal = _is_causal(model)
    with evaluating(model):
        for batch in _batches(model, tokenizer, lines, _READ):
            mask = batch["attention_mask"]
            hidden = _reader(model)(**batch).last_hidden_state
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
            vectors.append(torch.nn.functional.normalize(pooled.float(), dim=1))
            if causal:
                logits = cast(Any, model)(**batch).logits[:, :-1].float()
                targets, seen = batch["input_ids"][:, 1:], mask[:, 1:].bool()
                nll = torch.nn.functional.cross_entropy(
                    logits[seen], targets[seen], reduction="sum"
                )
                total, count = total + float(nll), count + int(seen.sum())
    perplexity = exp(min(total / count, 700)) if count else None
    return Readings(perplexity, torch.cat(vectors))


def _reader(model: PreTrainedModel) -> Any:  # noqa: ANN401
    """The part that gives hidden states for tokens: the decoder alone where speech is encoded."""
    if not model.config.is_encoder_decoder:
        return model.base_model
    encoder: Any = model.get_encoder()
    if "input_ids" in inspect.signature(encoder.forward).parameters:
        return encoder
    return cast(PreTrainedModel, model.get_decoder()).base_model


def _is_causal(model: PreTrainedModel) -> bool:
    head = model.get_output_embeddings()
    return head is not None and model.can_generate() and not model.config.is_encoder_decoder


def _batches(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], size: int
) -> Iterator[dict[str, Tensor]]:
    """Ids and mask, padded behind the longest line with whatever the tokenizer pads with."""
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    options = {"truncation": True, "max_length": min(_TOKENS, positions or _TOKENS)}
    for first in range(0, len(lines), size):
        some = list(lines[first : first + size])
        rows = [row or [0] for row in cast(Any, tokenizer)(some, **options)["input_ids"]]
        longest, padding = max(map(len, rows)), tokenizer.pad_token_id or 0
        ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        yield {"input_ids": ids.to(model.device), "attention_mask": mask.to(model.device)}


def sensitivity(
    model: PreTrainedModel,
    tables: Sequence[Table],
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    *,
    report: Callable[[str], None] = lambda _: None,
) -> list[Float[Tensor, "features features"]]:
    r"""The metrics in which a small error of rows is as large as what it does to outputs.

    .. math:: M = \sum_t J_t^\top J_t + \sum_t (1 - \| p_t \|^2) \, h_t h_t^\top

    J_t is the derivative of a line's vector (its mean hidden state, of length 1) by the row of
    token t; of causal models, of the next words' log probabilities: M is then the Fisher
    information. The second sum is there where the table is the head's too: h_t are the states that
    it reads, p_t the probabilities that it gives. J is not computed: of each line one random
    combination of its outputs is traced back.

    Reference:
        | Optimal Brain Surgeon (Hassibi & Stork 1993): errors weighed by curvature

    Returns:
        A positive definite matrix for each table, with a mean cost of 1.
    """
    causal = _is_causal(model)
    totals = [
        torch.zeros(2 * table.weight.shape[1:], dtype=torch.float64, device=model.device)
        for table in tables
    ]
    rows: list[tuple[Tensor, Tensor]] = []  # what look-ups gave, and the sum that each adds to
    read: list[tuple[Tensor, Tensor]] = []

    def trace(total: Tensor) -> Callable[..., Tensor]:
        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            rows.append((output.detach().requires_grad_(), total))
            return rows[-1][0].clone()  # some models add positions in place

        return hook

    def keep(total: Tensor) -> Callable[..., None]:
        return lambda _, given: read.append((given[0].detach(), total))

    hooks = []
    for table, total in zip(tables, totals, strict=True):
        for name in table.inputs:
            hooks.append(model.get_submodule(name).register_forward_hook(trace(total)))
        for name in table.heads:
            hooks.append(model.get_submodule(name).register_forward_pre_hook(keep(total)))
    part = model if causal else _reader(model)
    generator = torch.Generator(model.device).manual_seed(0)
    start, told = time.perf_counter(), 0
    try:
        with evaluating(model), torch.enable_grad():
            for index, batch in enumerate(_batches(model, tokenizer, lines, _TRACED), 1):
                mask = batch["attention_mask"].bool()
                rows.clear()
                read.clear()
                score, spread = _score(part(**batch), mask, causal, generator)
                gradients = torch.autograd.grad(score, [each for each, _ in rows])
                for gradient, (_, total) in zip(gradients, rows, strict=True):
                    seen = gradient[mask].double()
                    total += seen.mT @ seen
                for states, total in read:
                    seen = states[mask].double()
                    total += (seen * spread[:, None]).mT @ seen
                done = min(index * _TRACED / len(lines), 1)
                if 10 * done >= told + 1:
                    told = int(10 * done)
                    left = (time.perf_counter() - start) * (1 / done - 1)
                    report(f"gradients of {done:.0%} of {len(lines)} lines, {left:.0f} s left")
    finally:
        for hook in hooks:
            hook.remove()
    return [_metric(total) for total in totals]


def _metric(total: Tensor) -> Tensor:
    equal, mean = torch.eye(len(total)).to(total), total.diagonal().mean()
    return (1 - _EQUAL) * total / mean + _EQUAL * equal if mean > 0 else equal


def _score(
    outputs: Any,  # noqa: ANN401
    mask: Tensor,
    causal: bool,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """A random combination of outputs, and 1 - ‖p‖² for each token."""
    if causal:
        log_prob = outputs.logits[mask].float().log_softmax(-1)
        prob = log_prob.detach().exp()
        drawn = torch.multinomial(prob, 1, generator=generator)
        return log_prob.gather(1, drawn).sum(), 1 - prob.square().sum(1).double()
    hidden = outputs.last_hidden_state.float()
    pooled = nn.functional.normalize((hidden * mask[..., None]).sum(1), dim=1)
    noise = torch.empty_like(pooled).normal_(generator=generator)
    return (pooled * noise).sum(), mask.new_zeros(int(mask.sum()), dtype=torch.float64)
