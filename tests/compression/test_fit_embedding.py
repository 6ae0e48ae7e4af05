import copy

import pytest
import torch
from torch import nn

from define.compression import fit_embedding
from define.embedding import AdaptiveEmbedding, DeFINE, ProjectedEmbedding

V, M = 90, 12
SMALL = {"map": 4, "expand_dim": 16, "depth": 2, "max_groups": 2, "dtype": torch.float64}


def some_table(size=V, width=M):
    """Columns of unequal scale around a mean that is not zero."""
    scale = torch.linspace(2, 0.2, width, dtype=torch.float64)
    mix = torch.randn(width, width, dtype=torch.float64)
    return (torch.randn(size, width, dtype=torch.float64) * scale + 0.7) @ mix


def relative_error(table, other, weights=None):
    weights = torch.ones(len(table), dtype=table.dtype) if weights is None else weights
    table, other = table.detach(), other.detach()
    error = (weights * (table - other).square().sum(1)).sum()
    return float(error / (weights * table.square().sum(1)).sum())


def svd(table, rank, weights=None, centre=True):
    """The reference: torch's own SVD of the table, rows scaled by the roots of their weights."""
    weights = torch.ones(len(table), dtype=table.dtype) if weights is None else weights
    weights = weights / weights.sum()
    mean = weights @ table * centre
    root = weights.sqrt()[:, None]
    *_, vh = torch.linalg.svd(root * (table - mean), full_matrices=False)
    return (table - mean) @ vh[:rank].mT @ vh[:rank] + mean


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "make",
    [
        lambda: DeFINE(V, M, **SMALL),
        lambda: DeFINE(V, M, **{**SMALL, "skip": "residual"}),
        lambda: DeFINE(V, M, **{**SMALL, "std": 0.05}),
        lambda: DeFINE(V, M, **{**SMALL, "norm": nn.LayerNorm}),
        lambda: ProjectedEmbedding(V, M, map=4, bias=True, dtype=torch.float64),
    ],
)
def test_start_is_the_svd(make, weighted):
    table, embedding = some_table(), make()
    weights = torch.rand(V, dtype=torch.float64) + 0.1 if weighted else None
    fit = fit_embedding(table, embedding, weights, rounds=0)
    expected = svd(table, 4, weights)
    torch.testing.assert_close(embedding.weight, expected)
    assert fit.start == fit.error == pytest.approx(relative_error(table, expected, weights))


def test_projection_without_bias_is_not_centred():
    table = some_table()
    embedding = ProjectedEmbedding(V, M, map=4, dtype=torch.float64)
    assert fit_embedding(table, embedding).rounds == 0
    torch.testing.assert_close(embedding.weight, svd(table, 4, centre=False))
    torch.testing.assert_close(
        embedding.weight, ProjectedEmbedding.from_pretrained(table, map=4).weight
    )


def test_map_has_the_scale_that_was_asked_for():
    embedding = DeFINE(V, M, **{**SMALL, "std": 0.3})
    fit_embedding(some_table(), embedding, rounds=0)
    assert float(embedding.map.weight.detach().square().mean().sqrt()) == pytest.approx(0.3)


def test_bands_are_each_the_svd_of_their_rows():
    table, weights = some_table(), torch.rand(V, dtype=torch.float64)
    embedding = AdaptiveEmbedding(
        V, M, cutoffs=[30, 60], map_dim=8, div_value=2, dtype=torch.float64
    )
    assert fit_embedding(table, embedding, weights).rounds == 0
    for band, width in zip(embedding.bands(), (8, 4, 2), strict=True):
        first, stop = band.start, band.stop
        expected = svd(table[first:stop], width, weights[first:stop], centre=False)
        torch.testing.assert_close(embedding.weight[first:stop], expected)


def test_wide_bands_are_exact():
    table = some_table()
    embedding = AdaptiveEmbedding(V, M, cutoffs=[30], dtype=torch.float64)
    fit_embedding(table, embedding)
    assert torch.equal(embedding.weight[:30], table[:30])


@pytest.mark.parametrize(
    "make",
    [
        lambda: DeFINE(V, M, **SMALL),
        lambda: DeFINE(V, M, **{**SMALL, "reduce_map": False}),
        lambda: DeFINE(V, M, **{**SMALL, "reduce": False}),
        lambda: DeFINE(V, M, **{**SMALL, "sparse": True}),
        lambda: DeFINE(
            V, M, **{**SMALL, "map": AdaptiveEmbedding(V, 4, cutoffs=[40], div_value=2).double()}
        ),
        lambda: DeFINE(
            V, M, **{**SMALL, "map": ProjectedEmbedding(V, 4, map=3, bias=True).double()}
        ),
        lambda: ProjectedEmbedding(
            V, M, map=AdaptiveEmbedding(V, 4, cutoffs=[40], div_value=2).double()
        ).double(),
    ],
)
def test_more_rounds_are_never_worse(make):
    table, errors = some_table(), []
    for rounds in (0, 1, 4, 16):
        embedding = make()
        fit = fit_embedding(table, embedding, rounds=rounds, batch_size=16)
        assert fit.error == pytest.approx(relative_error(table, embedding.weight))
        assert fit.error <= fit.start and fit.rounds <= rounds
        errors.append(fit.error)
    assert errors[-1] < errors[0]  # and it does improve


def test_a_step_that_is_too_large_is_taken_back():
    table, embedding = some_table(), DeFINE(V, M, **SMALL)
    fit = fit_embedding(table, embedding, lr=100.0, rounds=3)
    assert fit.error < fit.start  # by the closed form alone
    assert relative_error(table, embedding.weight) == pytest.approx(fit.error)


def test_recovers_a_table_that_a_define_made():
    torch.manual_seed(3)
    made = DeFINE(300, 24, map=4, expand_dim=24, depth=1, max_groups=1)
    table = made.weight.detach()
    embedding = DeFINE(300, 24, map=4, expand_dim=24, depth=1, max_groups=1)
    fit = fit_embedding(table, embedding, rounds=150, batch_size=100)
    assert fit.error < 0.02 * fit.start


def test_weights_matter():
    table = some_table()
    weights = torch.full((V,), 1e-3, dtype=torch.float64)
    weights[:10] = 1.0
    flat, weighted = (DeFINE(V, M, **SMALL) for _ in range(2))
    fit_embedding(table, flat, rounds=3)
    fit_embedding(table, weighted, weights, rounds=3)
    first = slice(0, 10)
    ours = relative_error(table[first], weighted.weight[first])
    assert ours < 0.5 * relative_error(table[first], flat.weight[first])
    assert relative_error(table, weighted.weight) > relative_error(table, flat.weight)


def test_scale_of_weights_and_table_does_not_matter():
    table, weights = some_table(), torch.rand(V, dtype=torch.float64)
    errors = [
        fit_embedding(size * table, DeFINE(V, M, **SMALL), scale * weights, rounds=2).error
        for size, scale in ((1.0, 1.0), (1e-3, 1e6), (1e3, 1e-6))
    ]
    assert errors == pytest.approx([errors[0]] * 3, rel=1e-6)


def test_is_deterministic_and_leaves_the_global_generators(monkeypatch):
    monkeypatch.delattr(torch.cuda, "manual_seed_all")  # those of GPUs, too
    table = some_table().float()
    first, second = (DeFINE(V, M, **{**SMALL, "dtype": None}) for _ in range(2))
    state = torch.get_rng_state()
    assert fit_embedding(table, first, rounds=3) == fit_embedding(table, second, rounds=3)
    assert torch.equal(torch.get_rng_state(), state)
    for (name, ours), theirs in zip(first.named_parameters(), second.parameters(), strict=True):
        assert torch.equal(ours, theirs), name
    fit_embedding(table, second, rounds=3, seed=1)
    assert not torch.equal(first.weight, second.weight)


def test_chunks_do_not_matter():
    table, weights = some_table(), torch.rand(V, dtype=torch.float64)
    first, second = (DeFINE(V, M, **SMALL) for _ in range(2))
    fit_embedding(table, first, weights, rounds=2)
    fit_embedding(table, second, weights, rounds=2, chunk_size=7)
    torch.testing.assert_close(first.weight, second.weight)


def test_padding_does_not_count():
    table = some_table()
    other = copy.deepcopy(table)
    other[5] = 1e3
    embeddings = [DeFINE(V, M, padding_idx=5, **SMALL) for _ in range(2)]
    fits = [fit_embedding(t, e, rounds=2) for t, e in zip((table, other), embeddings, strict=True)]
    assert fits[0] == fits[1]
    assert not embeddings[0].weight[5].any()
    torch.testing.assert_close(embeddings[0].weight, embeddings[1].weight)


def test_rows_without_weight_are_still_approximated():
    table, weights = some_table(), torch.ones(V)
    weights[60:] = 0
    embedding = DeFINE(V, M, **SMALL)
    fit_embedding(table, embedding, weights, rounds=0)
    assert relative_error(table[60:], embedding.weight[60:]) < 0.8


def test_a_map_as_wide_as_the_table_is_exact():
    table = some_table(V, 8)
    embedding = DeFINE(V, 8, **{**SMALL, "map": 8})
    assert fit_embedding(table, embedding, rounds=2).error < 1e-20


def test_dropout_is_off_while_fitting_and_the_mode_is_left_alone():
    table, fits = some_table(), []
    for dropout in (0.0, 0.5):
        embedding = DeFINE(V, M, dropout=dropout, **SMALL)
        embedding.map.eval()
        modes = [part.training for part in embedding.modules()]
        fits.append(fit_embedding(table, embedding, rounds=2))
        assert [part.training for part in embedding.modules()] == modes
    assert fits[0] == fits[1]


def test_stops_when_nothing_improves():
    embedding = DeFINE(V, M, **SMALL)
    assert fit_embedding(some_table(), embedding, rounds=50, tolerance=1.0).rounds == 15


def test_progress_bar_is_shown_on_request_alone(capfd):
    for progress in (None, False, True):  # stderr is no terminal here
        fit_embedding(some_table(), DeFINE(V, M, **SMALL), rounds=2, progress=progress)
        assert ("relative error" in capfd.readouterr().err) == (progress is True)


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="EmbeddingBag"):
        fit_embedding(some_table(), nn.EmbeddingBag(V, M, dtype=torch.float64))


@pytest.mark.parametrize(
    ("table", "weights", "message"),
    [
        (torch.ones(5, M), None, rf"\(5, {M}\).*\({V}, {M}\)"),
        (torch.ones(V, M, 1), None, rf"\({V}, {M}, 1\)"),
        (torch.full((V, M), torch.nan), None, f"{V} of {V} rows.*row 0"),
        (torch.zeros(V, M), None, "zero"),
        (torch.ones(V, M), torch.ones(V - 1), rf"\({V - 1},\).*\({V}, {M}\)"),
        (torch.ones(V, M), torch.zeros(V), "not all be 0"),
        (torch.ones(V, M), -torch.ones(V), "at least 0, not -1"),
        (torch.ones(V, M), torch.full((V,), torch.inf), "not inf"),
    ],
)
def test_bad_input_is_named(table, weights, message):
    with pytest.raises(ValueError, match=message):
        fit_embedding(table, DeFINE(V, M, **SMALL), weights)


@pytest.mark.parametrize(
    ("option", "value"),
    [("rounds", -1), ("batch_size", 0), ("lr", 0.0), ("tolerance", -1.0), ("chunk_size", 0)],
)
def test_bad_options_are_named(option, value):
    with pytest.raises(ValueError, match=option):
        fit_embedding(some_table(), DeFINE(V, M, **SMALL), **{option: value})


def test_half_precision_is_refused():
    with pytest.raises(ValueError, match="bfloat16"):
        fit_embedding(some_table(), DeFINE(V, M, **{**SMALL, "dtype": torch.bfloat16}))


@pytest.mark.parametrize("kind", ["define", "projected"])
@pytest.mark.parametrize("case", ["one row counts", "one row", "small", "large"])
def test_a_fit_never_ends_without_a_number(kind, case):
    torch.manual_seed(0)
    table = torch.randn(1 if case == "one row" else 200, 16)
    weights = torch.zeros(200) if case == "one row counts" else None
    if weights is not None:
        weights[5] = 1.0
    table *= {"small": 1e-10, "large": 1e10}.get(case, 1.0)
    size, width = table.shape
    embedding = (
        DeFINE(size, width, map=4, expand_dim=16, depth=1, max_groups=1)
        if kind == "define"
        else ProjectedEmbedding(size, width, map=4, bias=True)
    )
    fit = fit_embedding(table, embedding, weights, rounds=1)
    assert 0 <= fit.error <= fit.start < 1
    if "one row" in case:
        assert fit.error < 1e-6
    else:
        assert fit.error > 0.1  # a table of full rank, whatever its scale


@pytest.mark.parametrize("scale", [1e-24, 1e-40, 1e18, 1e30])
def test_numbers_that_cannot_be_squared_are_refused(scale):
    table = torch.randn(50, 16) * scale
    with pytest.raises(ValueError, match=r"root mean square of .* must be within 1e-12 and 1e\+12"):
        fit_embedding(table, ProjectedEmbedding(50, 16, map=4), rounds=1)
