import math
from pathlib import Path

import pytest
from torch import nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding
from define.__main__ import main
from define.measures.cost import tied_output
from define.measures.counting import count_parameters, shapes_only
from define.measures.measured import MEASURED
from define.measures.suggest import suggest

CLASSES = {
    kind.__name__: kind for kind in (nn.Embedding, AdaptiveEmbedding, ProjectedEmbedding, DeFINE)
}


def built(suggestion):
    with shapes_only():
        embedding = eval(suggestion.code, CLASSES)
        return count_parameters(embedding, tied_output(embedding))


@pytest.mark.parametrize("comparison", MEASURED, ids=lambda c: c.model)
def test_what_was_measured_comes_back(comparison):
    size, tokens = comparison.num_embeddings, comparison.tokens
    found = {x.method: x for x in suggest(size, 200, tokens, backbone=comparison.backbone)}
    for result in comparison.results:
        if result.width > 0.4:
            assert found[result.method].source is comparison
            assert found[result.method].perplexity == result.perplexity
            assert found[result.method].share == pytest.approx(result.share, rel=0.1)


def test_the_best_is_first_and_the_smaller_one_where_they_are_level():
    for size, tokens in ((10_000, 2_788_767), (10_000, 13_943_700), (7_680, 868_294)):
        found = suggest(size, 200, tokens)
        known = [x for x in found if x.perplexity is not None]
        best = min(x.perplexity for x in known)
        level = [x for x in known if x.perplexity <= best + 0.01]
        assert found[0] == min(level, key=lambda x: x.parameters)
        assert all(x.perplexity is None for x in found[len(known) :])
    assert suggest(10_000, 200, 2_788_767)[0].method == "standard"
    assert suggest(10_000, 200, 13_943_700)[0].method == "projected"


@pytest.mark.parametrize("size", [500, 33_278, 267_735])
@pytest.mark.parametrize("share", [None, 0.08, 0.3, 1.0])
def test_codes_build_the_widest_that_fit(size, share):
    parameters = None if share is None else int(size * 256 * share)
    found = suggest(size, 256, 10**7, parameters)
    for x in found:
        assert x.parameters == built(x) and x.share == x.parameters / (size * 256)
        assert parameters is None or x.parameters <= parameters
        if parameters and x.method == "projected" and "map=256" not in x.code:
            width = int(x.code.split("map=")[1].rstrip(")"))
            assert x.parameters + 8 * (size + 2 * 256) > parameters
            assert width % 8 == 0
    assert len(found) == (4 if share is None else len(found))


def test_nothing_is_claimed_far_from_what_was_measured():
    tiny = suggest(33_278, 200, 10**7, 300_000)
    assert all(x.perplexity is None and x.source is None for x in tiny)


def test_the_comparisons_are_sections_of_the_log():
    log = Path(__file__).parents[2] / "docs" / "log.md"
    headings = [line for line in log.read_text("utf-8").splitlines() if line.startswith("## ")]
    for comparison in MEASURED:
        assert any(comparison.section in heading for heading in headings), comparison.section
        assert all(math.isfinite(r.perplexity) for r in comparison.results)


def test_the_command_says_what_to_take(capsys):
    sizes = ["--num_embeddings", "33278", "--embedding_dim", "200"]
    main(["suggest", *sizes, "--tokens", "6000000"])
    out = capsys.readouterr().out
    assert out.startswith("Take ProjectedEmbedding(33_278, 200, map=96)")
    assert "-2.7 %" in out and "WikiText-2, a small LSTM" in out
    main(["suggest", *sizes, "--tokens", "6000000", "--parameters", "300000"])
    assert capsys.readouterr().out.startswith("Nothing was measured at this size.")


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ((0, 200, 10**6), "num_embeddings=0"),
        ((100, 7, 10**6), "embedding_dim=7"),
        ((100, 8, 0), "tokens=0"),
        ((1000, 64, 10**6, 100), "parameters=100"),
    ],
)
def test_bad_values_are_named(sizes, message):
    with pytest.raises(ValueError, match=message):
        suggest(*sizes)
