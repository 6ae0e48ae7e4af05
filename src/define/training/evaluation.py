"""The mean negative log-likelihood of a text under a trained model."""

from collections.abc import Iterable

import torch
from torch import Tensor
from tqdm import tqdm

from define.models import LanguageModel
from define.modes import evaluating
from define.softmax.chunked import IGNORED

__all__ = ["mean_nll"]


@torch.no_grad()
def mean_nll(
    model: LanguageModel, batches: Iterable[tuple[Tensor, Tensor]], title: str | None = None
) -> float:
    """Mean negative log-likelihood in nats per token; its exponential is the perplexity.

    The state is carried from batch to batch.

    Args:
        model: The model; its mode is put back afterwards.
        batches: Consecutive (tokens, targets), both (batch, time).
        title: Name of a progress bar on standard error; none if omitted.
    """
    device = next(model.parameters()).device
    hidden = True if title is None else None  # None: unless in a terminal
    state, total, count = None, torch.zeros((), dtype=torch.float64), 0
    with evaluating(model):
        for tokens, targets in tqdm(batches, title, disable=hidden, leave=False):
            nll, state = model(tokens.to(device), targets.to(device), state)
            total += nll.sum().double().cpu()
            count += int((targets != IGNORED).sum())
    return (total / count).item()
