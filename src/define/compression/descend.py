"""Gradient steps on a whole embedding, between closed forms; the best is kept."""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from define.embedding import solve, solved_parameters
from define.embedding.target import Target

__all__ = ["descend"]

_DECAY = 0.5  # of the learning rate, where rounds no longer improve
_PATIENCE = 3  # rounds without improvement before it: steps are noisy while they are large
_TRIES = 5  # at so many rates in a row


def descend(
    embedding: nn.Module,
    target: Target,
    *,
    rounds: int,
    lr: float,
    batch_size: int,
    tolerance: float,
    generator: torch.Generator,
    report: Callable[[float], None],
) -> tuple[float, int]:
    """Improves an embedding by rounds of Adam over all rows, each ended by a closed form.

    A round takes all rows once in random order; then Reduce is solved for. The learning rate falls
    along a cosine over the rounds, and by half, from the best on, after a round that ends worse
    than the start or a few without improvement; five rates in a row without any end it.

    Returns:
        The relative error of the best, in which the embedding is left, and the rounds made.
    """
    best, kept = target.error(embedding), _copy(embedding)
    if solve(embedding, target):
        error = target.error(embedding)
        if error < best:
            best, kept = error, _copy(embedding)
        else:
            embedding.load_state_dict(kept)
    first = best
    optimizer = _optimizer(embedding)
    scale, idle, tries, done = 1.0, 0, 0, 0
    for done in range(1, rounds + 1):
        for progress, loss in _epoch(embedding, target, batch_size, generator):
            for group in optimizer.param_groups:
                at = (done - 1 + progress) / rounds
                group["lr"] = lr * scale * group["size"] * (1 + math.cos(math.pi * at)) / 2
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        solve(embedding, target)
        error = target.error(embedding)
        idle, tries = (0, 0) if error < best * (1 - tolerance) else (idle + 1, tries)
        if error < best:
            best, kept = error, _copy(embedding)
        report(best)
        if idle == _PATIENCE or not error < first:  # NaN is worse too
            tries += 1
            if tries == _TRIES:
                break
            embedding.load_state_dict(kept)
            optimizer = _optimizer(embedding)
            scale, idle = scale * _DECAY, 0
    embedding.load_state_dict(kept)
    return best, done


def _epoch(
    embedding: nn.Module, target: Target, batch_size: int, generator: torch.Generator
) -> Iterator[tuple[float, Tensor]]:
    """Share of the round that is over, and the loss of the next batch."""
    ids = (target.weights > 0).nonzero().flatten()
    order = torch.randperm(len(ids), generator=generator).to(ids.device)
    batches = ids[order].split(batch_size)
    for i, batch in enumerate(batches):
        batch = batch.sort().values
        squares = (embedding(batch) - target.table[batch]).square().sum(1)
        yield i / len(batches), target.weights[batch] @ squares / len(batch)


def _optimizer(embedding: nn.Module) -> torch.optim.Adam:
    # Steps of Adam have the size of the learning rate: each tensor's own scale makes them fit.
    solved = set(solved_parameters(embedding))
    groups = []
    for parameter in (p for p in embedding.parameters() if p not in solved):
        size = float(parameter.detach().square().mean().sqrt())
        groups.append({"params": [parameter], "size": size if size > 0 else 1.0})
    # In one pass over each parameter: a batch costs little beside a table of many rows.
    return torch.optim.Adam(groups, betas=(0.9, 0.99), eps=1e-30, fused=True)


def _copy(embedding: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in embedding.state_dict().items()}


@contextmanager
def dense_gradients(embedding: nn.Module) -> Iterator[None]:
    """Adam knows no sparse gradients."""
    sparse = [module for module in embedding.modules() if getattr(module, "sparse", False)]
    try:
        for module in sparse:
            setattr(module, "sparse", False)  # noqa: B010  # a plain attribute
        yield
    finally:
        for module in sparse:
            setattr(module, "sparse", True)  # noqa: B010
