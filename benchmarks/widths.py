"""Widths of a DeFINE that keep to a number of parameters."""

from dataclasses import dataclass

from define.embedding import DeFINE

__all__ = ["Widths", "widths_for_share"]


@dataclass(frozen=True)
class Widths:
    """Width of the Map and of the end of Expand, and the parameters of such a DeFINE in all."""

    map: int
    expand_dim: int
    parameters: int


def widths_for_share(
    num_embeddings: int,
    embedding_dim: int,
    share: float,
    *,
    depth: int = 1,
    max_groups: int = 1,
    unit_share: float = 0.15,
    max_expand_dim: int | None = None,
) -> Widths:
    """Widths with which a DeFINE has at most a share of the parameters of the plain table.

    The Map is as wide as it can be beside a unit of about `unit_share` of the budget, or beside the
    widest unit if that is smaller; Expand then takes what is left.

    Args:
        num_embeddings: Size V of the vocabulary.
        embedding_dim: Width m of the table.
        share: Parameters of the DeFINE, unit included, over those of the table (V m).
        depth: Number of Expand layers.
        max_groups: Groups of the first Expand layer; the width of the Map is a multiple of it.
        unit_share: Share of the budget that goes to Expand and Reduce.
        max_expand_dim: The most width of Expand; the larger of 1024 and 4 m if omitted. A fit
            solves for Reduce in time that grows with its square, and with many rows of few
            features a share alone would make it very wide.

    Raises:
        ValueError: If no widths keep to the share.

    Example:
        >>> widths_for_share(30_522, 384, 1 / 4)
        Widths(map=81, expand_dim=914, parameters=2929694)
        >>> widths_for_share(400_000, 50, 1 / 2)  # here Expand is as wide as it may be
        Widths(map=24, expand_dim=1024, parameters=9678050)
    """
    if not 0 < share <= 1:
        raise ValueError(f"{share=} must be above 0 and at most 1.")
    if not 0 <= unit_share < 1:
        raise ValueError(f"{unit_share=} must be at least 0 and below 1.")
    budget = int(share * num_embeddings * embedding_dim)

    def parameters(map: int, expand_dim: int) -> int:
        module = DeFINE(
            num_embeddings,
            embedding_dim,
            map=map,
            expand_dim=expand_dim,
            depth=depth,
            max_groups=max_groups,
            device="meta",
        )
        return sum(parameter.numel() for parameter in module.parameters())

    step = max_groups  # every group count of the schedule is then a divisor, if that is 2^x
    if max_groups & (max_groups - 1):
        raise ValueError(f"{max_groups=} must be a power of 2.")
    last = max(max_groups >> (depth - 1), 1)
    most = max(1024, 4 * embedding_dim) if max_expand_dim is None else max_expand_dim
    most = most // last * last
    beside_share = int(budget * (1 - unit_share) / num_embeddings)
    for map in range(budget // num_embeddings // step * step, 0, -step):
        if map > most or parameters(map, map) > budget:  # the narrowest unit that there is
            continue
        if map > beside_share and parameters(map, most) > budget:
            continue
        low, high = map // last, most // last + 1
        while low + 1 < high:  # as wide as fits
            middle = (low + high) // 2
            low, high = (
                (middle, high) if parameters(map, middle * last) <= budget else (low, middle)
            )
        return Widths(map, low * last, parameters(map, low * last))
    raise ValueError(
        f"{share=} of {num_embeddings} x {embedding_dim} leaves {budget} parameters, too few for a "
        f"DeFINE with {depth=}, {max_groups=} and {max_expand_dim=}."
    )
