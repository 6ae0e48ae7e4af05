"""Fits an embedding to the table of another, trained one."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from tqdm import tqdm

from define.compression.descend import dense_gradients, descend
from define.embedding import approximate, is_exact
from define.embedding.tables import seeded
from define.embedding.target import check_target
from define.modes import evaluating

__all__ = ["Fit", "fit_embedding"]


@dataclass(frozen=True)
class Fit:
    """How well an embedding stands for a table.

    Args:
        start: Relative error of the linear factorization that it started from.
        error: Relative error of what it ended with, at most `start`.
        rounds: Rounds of gradient steps made.
    """

    start: float
    error: float
    rounds: int


def fit_embedding(
    table: Float[Tensor, "num_embeddings features"],
    embedding: nn.Module,
    weights: Float[Tensor, " num_embeddings"] | None = None,
    *,
    rounds: int = 40,
    lr: float = 0.05,
    batch_size: int = 512,
    tolerance: float = 1e-4,
    chunk_size: int = 8192,
    seed: int = 0,
    progress: bool | None = None,
) -> Fit:
    r"""Makes an embedding the best approximation of a given table that it can find.

    .. math:: \min \sum_i w_i \| \mathrm{embedding}(i) - t_i \|^2 / \sum_i w_i \| t_i \|^2

    It starts from the weighted truncated SVD, centred where there is a bias. A
    :class:`~define.ProjectedEmbedding` or :class:`~define.AdaptiveEmbedding` is then as good as it
    can be. A :class:`~define.DeFINE` holds the same factorization in Reduce's path from the Map and
    improves on it: Reduce is linear in what it reads and solved for in closed form, rounds of Adam
    move Map, Expand and Reduce together, and only what is better is kept. All parameters of the
    embedding are overwritten. The same arguments give the same result on the same machine.

    Args:
        table: The trained table (V, m).
        embedding: What stands for it, with as many rows and columns, in float32 or float64: a
            DeFINE, ProjectedEmbedding, AdaptiveEmbedding (alone or as Map) or `torch.nn.Embedding`.
            The row of its `padding_idx` is zero and does not count. It says itself in how many
            bytes it is stored: with a :class:`~define.RoundedEmbedding` as Map, in few. For the
            best way within a number of bytes see :func:`~define.compression.compress_table`.
        weights: What an error in each row costs, such as the frequencies of the words (V); equal
            if omitted.
        rounds: Most rounds of gradient steps; each takes every row once. 0 leaves the start.
        lr: Learning rate relative to the scale of each parameter; falls to 0 over the rounds.
        batch_size: Rows in a gradient step.
        tolerance: Relative improvement of a round below which it counts as none; a few such
            halve the learning rate, and end the fit where that does not help.
        chunk_size: Rows taken at a time by all that sees the whole table.
        seed: Of the first Expand and of the order of rows.
        progress: Whether to show a progress bar; if omitted, on a terminal alone.

    Returns:
        The relative errors before and after; 0 is exact and 1 as good as zeros.

    Raises:
        ValueError: If table, embedding and weights differ in size, the table is not finite or all
            zero, or weights are negative or all zero.
        TypeError: If the embedding is of another class.

    Example:
        >>> from define import DeFINE
        >>> table = torch.randn(500, 32) @ torch.randn(32, 32)
        >>> embedding = DeFINE(500, 32, map=8, expand_dim=32, depth=1, max_groups=1)
        >>> fit = fit_embedding(table, embedding, rounds=2)
        >>> 0 < fit.error <= fit.start < 1
        True
    """
    if rounds < 0 or batch_size < 1:
        raise ValueError(f"{rounds=} must be at least 0, {batch_size=} at least 1.")
    if not (lr > 0 and tolerance >= 0):
        raise ValueError(f"{lr=} must be above 0, {tolerance=} at least 0.")
    target = check_target(torch.as_tensor(table).detach(), embedding, weights, chunk_size)
    # Without dropout: it has nothing to regularize here.
    with evaluating(embedding), seeded(seed, target.table.device), dense_gradients(embedding):
        approximate(embedding, target)
        first = target.error(embedding)
        if rounds == 0 or is_exact(embedding):
            return Fit(first, first, 0)
        bar = tqdm(
            total=rounds,
            desc="fit",
            unit="round",
            disable=None if progress is None else not progress,
        )

        def report(error: float) -> None:
            bar.set_postfix_str(f"relative error {error:.4f}, linear {first:.4f}")
            bar.update()

        with bar, torch.enable_grad():
            error, done = descend(
                embedding,
                target,
                rounds=rounds,
                lr=lr,
                batch_size=batch_size,
                tolerance=tolerance,
                generator=torch.Generator().manual_seed(seed),
                report=report,
            )
    return Fit(first, error, done)
