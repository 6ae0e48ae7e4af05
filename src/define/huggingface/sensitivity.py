"""What a model's outputs make of an error in its token table, by direction."""

import time
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from define.huggingface.check import evaluating
from define.huggingface.sample import is_causal, token_batch
from define.huggingface.tables import Table

__all__ = ["sensitivity"]

_LINES = 4  # in one pass
_EQUAL = 0.05  # of the metric: directions that a sample has not moved count a little


def sensitivity(
    model: PreTrainedModel,
    tables: Sequence[Table],
    tokenizer: PreTrainedTokenizerBase,
    lines: Sequence[str],
    *,
    max_length: int = 128,
    seed: int = 0,
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

    Args:
        model: A plain model of transformers; it stays as it is.
        tables: The tables in question.
        tokenizer: Of the model.
        lines: A sample of text, some hundred lines.
        max_length: Tokens of a line that are read.
        seed: Of the combinations.
        report: Called with a line on the progress, some ten times.

    Returns:
        A positive definite matrix for each table, with a mean cost of 1.
    """
    positions = getattr(model.config.get_text_config(), "max_position_embeddings", None)
    max_length = min(max_length, positions or max_length)
    causal = is_causal(model)
    totals = [
        torch.zeros(2 * table.weight.shape[1:], dtype=torch.float64, device=model.device)
        for table in tables
    ]
    rows: list[tuple[Tensor, Tensor]] = []  # what look-ups gave, and the sum that each adds to
    read: list[tuple[Tensor, Tensor]] = []

    def trace(total: Tensor) -> Callable[..., Tensor]:
        def hook(_: nn.Module, __: object, output: Tensor) -> Tensor:
            rows.append((output.detach().requires_grad_(), total))
            return rows[-1][0]

        return hook

    def keep(total: Tensor) -> Callable[..., None]:
        return lambda _, given: read.append((given[0].detach(), total))

    hooks = []
    for table, total in zip(tables, totals, strict=True):
        for name in table.inputs:
            hooks.append(model.get_submodule(name).register_forward_hook(trace(total)))
        for name in table.heads:
            hooks.append(model.get_submodule(name).register_forward_pre_hook(keep(total)))
    part = model if causal else model.base_model
    part = model.get_encoder() if model.config.is_encoder_decoder else part
    generator = torch.Generator(model.device).manual_seed(seed)
    start, told = time.perf_counter(), 0
    try:
        with evaluating(model), torch.enable_grad():
            for first in range(0, len(lines), _LINES):
                some = lines[first : first + _LINES]
                batch = token_batch(tokenizer, some, max_length, model.device)
                mask = batch["attention_mask"].bool()
                rows.clear()
                read.clear()
                score, spread = _score(cast(Any, part)(**batch), mask, causal, generator)
                gradients = torch.autograd.grad(score, [each for each, _ in rows])
                for gradient, (_, total) in zip(gradients, rows, strict=True):
                    seen = gradient[mask].double()
                    total += seen.mT @ seen
                for states, total in read:
                    seen = states[mask].double()
                    total += (seen * spread[:, None]).mT @ seen
                done = (first + len(some)) / len(lines)
                if 10 * done >= told + 1:
                    told = int(10 * done)
                    left = (time.perf_counter() - start) * (1 / done - 1)
                    report(f"gradients of {done:.0%} of {len(lines)} lines, {left:.0f} s left")
    finally:
        for hook in hooks:
            hook.remove()
    return [_metric(total) for total in totals]


def _metric(total: Tensor) -> Tensor:
    equal = torch.eye(len(total), dtype=total.dtype, device=total.device)
    mean = total.diagonal().mean()
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
