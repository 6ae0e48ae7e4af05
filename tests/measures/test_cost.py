from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from define import (
    AdaptiveEmbedding,
    AdaptiveSoftmax,
    BandedEmbedding,
    DeFINE,
    ProjectedEmbedding,
    TiedSoftmax,
)
from define.__main__ import main
from define.measures import cost_table, embedding_costs
from define.measures.counting import count_parameters, shapes_only

V, M, N = 10_000, 400, 128
CUTOFFS = (2_000, 6_000)


def build(method, size):
    """The method's embedding and tied output layer, written out once more."""
    if method == "adaptive":
        cutoffs = [cutoff for cutoff in CUTOFFS if cutoff < size]
        if cutoffs:
            embedding = AdaptiveEmbedding(size, M, cutoffs=cutoffs, device="meta")
            return embedding, AdaptiveSoftmax(embedding, device="meta")
    if method == "DeFINE, n 128":
        embedding = DeFINE(size, M, map=N, max_groups=32, device="meta")
    elif method == "projected, n 128":
        embedding = ProjectedEmbedding(size, M, map=N, device="meta")
    else:
        embedding = nn.Embedding(size, M, device="meta")
        return embedding, TiedSoftmax(embedding, bias=False, device="meta")
    return embedding, TiedSoftmax(embedding.map, M, bias=False, device="meta")


@pytest.fixture(scope="module")
def costs():
    return {
        cost.method: cost for cost in embedding_costs(V, M, (N,), max_groups=32, cutoffs=CUTOFFS)
    }


METHODS = ["standard", "adaptive", "projected, n 128", "DeFINE, n 128"]


def test_methods(costs):
    assert list(costs) == METHODS


@pytest.mark.parametrize("method", METHODS)
def test_parameters_are_those_of_the_modules(costs, method):
    embedding, head = build(method, V)
    assert costs[method].input.parameters == count_parameters(embedding)
    assert costs[method].tied.parameters == count_parameters(embedding, head)


@pytest.mark.parametrize("method", METHODS[1:])
@pytest.mark.parametrize("part", ["input", "tied"])
def test_break_even_is_the_first_smaller_vocabulary(costs, method, part):
    def smaller(size):
        modules = build(method, size)
        return count_parameters(*modules[: 1 if part == "input" else 2]) < M * size

    size = getattr(costs[method], part).break_even
    assert smaller(size)
    assert not smaller(size - 1)
    assert all(
        smaller(later) for later in (size + 1, 2_001, 6_000, 6_001, V, 10 * V) if later > size
    )


def test_any_other_embedding():
    class Halved(ProjectedEmbedding):
        def __init__(self, num_embeddings, embedding_dim):
            super().__init__(num_embeddings, embedding_dim, map=embedding_dim // 2)

    *_, found = embedding_costs(1_000, 64, (32,), cutoffs=(), embedding=Halved)
    (_, projected, *_) = embedding_costs(1_000, 64, (32,), cutoffs=())
    assert found == replace(projected, method="Halved")


def test_rows_that_a_band_computes_are_counted():
    def joined(size, width):
        rare = DeFINE(size - 100, width, map=4, expand_dim=16, depth=2, max_groups=2)
        return BandedEmbedding(size, width, parts=[nn.Embedding(100, width), rare])

    *_, found = embedding_costs(300, 16, (16,), expand_dim=16, cutoffs=(), embedding=joined)
    weights = [1 / rank for rank in range(1, 301)]
    cost = joined(300, 16).parts[1].row_cost()
    assert found.input.multiply_adds == pytest.approx(cost * sum(weights[100:]) / sum(weights))


def test_the_command_takes_any_embedding(capsys):
    sizes = ["--num_embeddings", "50000", "--embedding_dim", "300"]
    main(["embeddings", *sizes, "--embedding", "HashEmbedding", "--embedding.num_buckets", "5000"])
    assert f"| HashEmbedding    |  {5000 * 300 + 2 * 50_000:,} |" in capsys.readouterr().out


def test_never_smaller():
    standard, *rest = embedding_costs(1_000, 64, (64, 128), cutoffs=())
    assert standard.input.break_even is standard.tied.break_even is None
    assert len(rest) == 4
    assert all(cost.input.break_even is cost.tied.break_even is None for cost in rest)


@pytest.mark.parametrize("size", [4, 9, 17, 40])
@pytest.mark.parametrize("width", [16, 64])
def test_small_adaptive_break_even(size, width):
    """Bands of a few words, whose projections may cost more than they save."""
    cutoffs = (size // 4, size // 2)
    _, adaptive, *_ = embedding_costs(size, width, (4,), max_groups=4, cutoffs=cutoffs)

    def smaller(size):
        within = [cutoff for cutoff in cutoffs if cutoff < size]
        with shapes_only():
            module = AdaptiveEmbedding(size, width, cutoffs=within) if within else None
        return module is not None and count_parameters(module) < width * size

    first = adaptive.input.break_even
    assert not smaller(first - 1)
    assert all(smaller(later) for later in range(first, first + 2 * size))


@pytest.mark.parametrize("method", METHODS)
def test_bytes(costs, method):
    cost = costs[method].input
    assert cost.float32_bytes == 4 * cost.parameters
    assert cost.bfloat16_bytes == 2 * cost.parameters
    assert cost.training_bytes == 16 * cost.parameters


@pytest.mark.parametrize("method", ["projected, n 128", "DeFINE, n 128"])
def test_multiply_adds_are_those_that_torch_counts(costs, method):
    embedding, head = build(method, V)
    for module, inputs, count in (
        (embedding.rows, torch.zeros(1, dtype=torch.int64, device="meta"), "input"),
        (head.rows_log_prob, torch.zeros(1, M, device="meta"), "tied"),
    ):
        with FlopCounterMode(display=False) as counter:
            module(inputs)
        assert counter.get_total_flops() == 2 * getattr(costs[method], count).multiply_adds


def test_adaptive_multiply_adds_are_expected_under_zipf(costs):
    weights = 1 / torch.arange(1, V + 1, dtype=torch.float64)
    head, middle, tail = (part.sum() / weights.sum() for part in weights.split((2000, 4000, 4000)))
    expected = middle * 100 * M + tail * 25 * M
    assert costs["adaptive"].input.multiply_adds == pytest.approx(expected.item())
    output = (2000 + 2) * M + middle * 100 * (M + 4000) + tail * 25 * (M + 4000)
    assert costs["adaptive"].tied.multiply_adds == pytest.approx(output.item())
    assert costs["standard"].tied.multiply_adds == V * M


@pytest.mark.parametrize(("size", "width"), [(10_000, 400), (267_735, 512), (2_000_000, 1024)])
def test_table_layout(size, width):
    text = cost_table(embedding_costs(size, width, (64, 128)))
    lines = text.splitlines()
    assert max(map(len, lines)) <= 100
    for table in (lines[2:10], lines[14:]):
        rows = [line for line in table if line.startswith("|")]
        assert len(rows) > 5
        assert len({len(row) for row in rows}) == 1


@pytest.mark.parametrize(("size", "width"), [(1, 1), (7, 64), (100, 3), (100, 4), (20, 20)])
def test_default_cutoffs_fit_small_sizes(size, width):
    assert embedding_costs(size, width, (4,), max_groups=1)


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((0, 4), {}, "num_embeddings=0"),
        ((4, -1), {}, "embedding_dim=-1"),
        ((4, 4, ()), {}, r"map=\(\)"),
        ((4, 4, (0,)), {}, "map=0"),
        ((4, 4, (64,)), {"expand_dim": 32}, "expand_dim=32"),
        ((4, 4, (64,)), {"depth": 0}, "depth=0"),
        ((4, 4, (65,)), {"max_groups": 16}, "map=65"),
        ((100, 64), {"cutoffs": (50, 20)}, r"cutoffs=\(50, 20\)"),
        ((100, 64), {"cutoffs": (100,)}, r"cutoffs=\(100,\)"),
    ],
)
def test_bad_values_are_named(arguments, options, message):
    with pytest.raises(ValueError, match=message):
        embedding_costs(*arguments, **options)
