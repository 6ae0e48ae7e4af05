from pathlib import Path

import pytest
from torch import nn

from define import AdaptiveEmbedding, DeFINE, Embedding, ProjectedEmbedding
from define.__main__ import main
from define.measures.cost import tied_output
from define.measures.counting import count_parameters, shapes_only
from define.measures.measured import MEASURED, METHODS, START
from define.measures.suggest import suggest

# What a user has: `define.Embedding` is the base of them all.
CLASSES = {kind.__name__: kind for kind in (AdaptiveEmbedding, ProjectedEmbedding, DeFINE)}
CLASSES |= {"Embedding": Embedding, "nn": nn}


def built(suggestion):
    with shapes_only():
        embedding = eval(suggestion.code, CLASSES)
        return count_parameters(embedding, tied_output(embedding))


@pytest.mark.parametrize("comparison", MEASURED, ids=lambda c: c.model)
def test_what_was_measured_comes_back(comparison):
    size, tokens = comparison.num_embeddings, comparison.tokens
    whole = max(result.share for result in comparison.results)
    budget = int(whole * size * 200 * 1.01)
    advice = suggest(size, 200, tokens, budget, comparison.backbone)
    if advice.comparison is not comparison:  # one with more methods is near, too
        assert len(advice.comparison.results) > len({r.method for r in comparison.results})
        return
    best = min(result.perplexity for result in comparison.results)
    for x in advice.suggestions:
        same = [r for r in comparison.results if r.method == x.method]
        near = [r for r in same if 0.62 < x.share / r.share < 1.62]
        assert x.loss is None if not near else x.loss in [r.perplexity / best - 1 for r in near]


def test_the_best_is_first_and_the_smaller_one_where_they_are_level():
    for comparison in MEASURED:
        sizes = comparison.num_embeddings, 200, comparison.tokens
        found = suggest(*sizes, backbone=comparison.backbone).suggestions
        known = [x for x in found if x.loss is not None]
        level = [x for x in known if x.loss <= min(y.loss for y in known) + 0.01]
        smallest = min(x.parameters for x in level)
        alike = [x for x in level if x.parameters <= 1.05 * smallest]
        assert found[0] == min(alike, key=lambda x: x.loss)
        assert all(x.loss is None for x in found[len(known) :])


@pytest.mark.parametrize(
    ("tokens", "parameters", "backbone", "method"),
    [
        (929_589, None, "lstm", "adaptive"),
        (13_943_700, None, "lstm", "projected"),
        (13_943_700, 450_000, "lstm", "projected, adaptive"),  # at equal parameters
        (1_255_000, None, "transformer", "standard"),
        (929_589, 400_000, "lstm", "adaptive"),
    ],
)
def test_what_is_suggested(tokens, parameters, backbone, method):
    assert suggest(10_000, 200, tokens, parameters, backbone).suggestions[0].method == method


@pytest.mark.parametrize("backbone", ["lstm", "transformer"])
@pytest.mark.parametrize("share", [None, 0.14, 0.2])  # the widest has 0.14: more is no limit
def test_with_a_large_vocabulary_and_tokens_enough_a_matrix_on_an_adaptive_map(backbone, share):
    parameters = None if share is None else int(share * 267_735 * 256)
    advice = suggest(267_735, 256, 25_000_000, parameters, backbone)
    assert advice.comparison.num_embeddings == 267_735
    assert advice.suggestions[0].method == "projected, adaptive"


@pytest.mark.parametrize("parameters", [None, 1_150_000])
def test_six_epochs_of_wikitext_2(parameters):
    advice = suggest(33_278, 200, 12_500_000, parameters)
    assert advice.suggestions[0].method == "projected, adaptive"


@pytest.mark.parametrize("size", [500, 33_278, 267_735])
@pytest.mark.parametrize("share", [None, 0.08, 0.3, 1.0])
def test_codes_build_the_widest_that_fit(size, share):
    parameters = None if share is None else int(size * 256 * share)
    found = suggest(size, 256, 10**7, parameters).suggestions
    for x in found:
        assert x.parameters == built(x) and x.share == x.parameters / (size * 256)
        assert parameters is None or x.parameters <= parameters
        if parameters and x.method == "projected" and "map=256" not in x.code:
            width = int(x.code.split("map=")[1].rstrip(")"))
            assert x.parameters + 8 * (size + 2 * 256) > parameters
            assert width % 8 == 0
    # With 500 words, a unit is larger than the table.
    assert len(found) == 6 or share is not None or size == 500


@pytest.mark.parametrize("sizes", [(2, 200), (50, 1000), (300, 512), (10_000, 200), (10**8, 64)])
@pytest.mark.parametrize("parameters", [None, 10**12])
@pytest.mark.parametrize("backbone", ["lstm", "transformer"])
def test_nothing_is_larger_than_a_plain_table(sizes, parameters, backbone):
    found = suggest(*sizes, 10**6, parameters, backbone).suggestions
    assert found and all(x.share <= 1 for x in found)


def test_methods_are_compared_at_equal_parameters_where_they_are_limited():
    advice = suggest(50_000, 300, 5_000_000, 3_000_000)
    assert {x.method for x in advice.suggestions if x.loss is not None} == set(METHODS)
    assert advice.suggestions[0].method == "adaptive"


def test_nothing_is_claimed_far_from_what_was_measured():
    advice = suggest(33_278, 200, 10**7, 300_000)
    assert advice.comparison is None and all(x.loss is None for x in advice.suggestions)


@pytest.mark.parametrize(
    ("size", "tokens", "start"),
    [(267_735, 1_000_000, True), (10_000, 200_000, True), (10_000, 40_000, False)],
)
def test_a_start_from_the_text_is_suggested_where_it_helped(size, tokens, start):
    assert suggest(size, 256, tokens).start is start
    assert suggest(size, 256, tokens, backbone="transformer").start is start
    assert suggest(size, 256, tokens).computed is (size > 10_000)


def test_the_comparisons_are_sections_of_the_log():
    log = Path(__file__).parents[2] / "docs" / "log.md"
    headings = [line for line in log.read_text("utf-8").splitlines() if line.startswith("## ")]
    for comparison in MEASURED:
        assert any(comparison.section in heading for heading in headings), comparison.section
        assert {result.method for result in comparison.results} <= set(METHODS)
    assert any(START in heading for heading in headings)


def test_the_command_says_what_to_take(capsys):
    sizes = ["--num_embeddings", "33278", "--embedding_dim", "200"]
    main(["suggest", *sizes, "--tokens", "6000000"])
    out = capsys.readouterr().out
    assert out.startswith("Take ProjectedEmbedding(33_278, 200, map=96)")
    assert "+3.2 %" in out and "WikiText-2, LSTM 2 × 200, 3 epochs" in out
    assert "one matrix is enough" in out
    assert "start from its training text" in out and max(map(len, out.splitlines())) <= 100
    main(["suggest", *sizes, "--tokens", "6000000", "--parameters", "300000"])
    assert capsys.readouterr().out.startswith("Nothing was measured at this size: none is known")
    main(["suggest", *sizes, "--tokens", "66000"])  # two tokens a word
    assert "start from" not in capsys.readouterr().out


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
