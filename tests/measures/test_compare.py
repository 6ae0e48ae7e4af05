import json
import math
from dataclasses import asdict, replace

import pytest

from define.measures import RunSummary, comparison_table
from define.measures.table import shorten, text_table

RUN = RunSummary(
    name="standard",
    embedding="Embedding",
    unit=0,
    context=1_400_000,
    input_output=2_010_000,
    tokens_per_second=5123.4,
    valid_perplexity=140.21,
    test_perplexity=135.12,
    seed=1,
    tokens=5_000_000,
    history=((1_000_000, 300.5), (5_000_000, 140.21)),
)
LONG = "penn-treebank-with-a-name-of-many-many-words-{}-seed-{}"


def cells(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def check_layout(text, width=100):
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    table = [line for line in lines if line.startswith("|")]
    bars = [[i for i, c in enumerate(line) if c == "|"] for line in table]
    assert all(b == bars[0] for b in bars)


def test_table_has_numbers_in_order():
    runs = [
        replace(RUN, peak_memory=3 * 2**29),
        replace(RUN, name="DeFINE", unit=300_000, test_perplexity=None),
    ]
    text = comparison_table(runs)
    check_layout(text)
    header, _, first, second = cells(text)
    assert header == [
        *("run", "unit M", "context M", "in-out M", "total M"),
        *("tokens/s", "GiB", "valid ppl", "test ppl"),
    ]
    assert first == ["standard", "0.00", "1.40", "2.01", "3.41", "5123", "1.50", "140.2", "135.1"]
    assert second == ["DeFINE", "0.30", "1.40", "2.01", "3.71", "5123", "–", "140.2", "–"]


@pytest.mark.parametrize("average", [False, True])
def test_what_long_names_share_is_said_below(average):
    runs = [
        replace(RUN, name=LONG.format(e, seed), embedding=e, unit=u, valid_perplexity=p + seed)
        for e, u, p in (("standard", 123_456_789, 99_999.0), ("DeFINE", 0, 12.0))
        for seed in (1, 2)
    ]
    text = comparison_table(runs, average_seeds=average)
    check_layout(text, 110)
    begin = "penn-treebank-with-a-name-of-many-many-words-"
    assert f"\n\n…: {begin}" in text
    names = [row[0] for row in cells(text)[2:]]
    if average:
        assert names == ["…standard (2)", "…DeFINE (2)"]
    else:
        assert names == [f"…{e}-seed-{seed}" for e in ("standard", "DeFINE") for seed in (1, 2)]


def test_default_names_are_whole_and_longer_ones_keep_both_ends():
    default = "penn-treebank-small-ProjectedEmbedding-1"
    text = comparison_table([replace(RUN, name=default), replace(RUN, name="x" * 50 + "-end")])
    names = [row[0] for row in cells(text)[2:]]
    assert names[0] == default and len(names[1]) == 40 and names[1].endswith("-end")
    assert cells(comparison_table([replace(RUN, name=default)]))[2][0] == default


def test_bleu_stands_where_a_run_has_it():
    text = comparison_table([RUN, replace(RUN, valid_bleu=31.0, test_bleu=29.557)])
    header, _, first, second = cells(text)
    assert header[-2:] == ["valid BLEU", "test BLEU"]
    assert first[-2:] == ["–", "–"] and second[-2:] == ["31.00", "29.56"]


def test_seeds_are_averaged():
    runs = [
        replace(RUN, name="standard-seed1", valid_perplexity=60.0, test_perplexity=58.0),
        replace(RUN, name="standard-seed2", valid_perplexity=61.0, test_perplexity=None, seed=2),
        replace(RUN, name="longer", tokens=2 * RUN.tokens),
    ]
    text = comparison_table(runs, average_seeds=True)
    check_layout(text)
    assert "half the range" in text
    _, _, first, second = cells(text)
    assert first[0] == "standard (2)"
    assert first[-2:] == ["60.50±0.50", "–"]
    assert second[0] == "longer (1)"


def test_seeds_that_diverged_have_no_spread():
    diverged = replace(RUN, valid_perplexity=math.inf)
    text = comparison_table([diverged, replace(diverged, seed=2)], average_seeds=True)
    assert "| inf |" in text.replace("  ", "") and "nan" not in text


def test_runs_of_other_settings_are_not_averaged_though_they_are_as_large():
    shuffled = replace(RUN, settings="shuffle: true")
    text = comparison_table([RUN, shuffled, replace(RUN, seed=2)], average_seeds=True)
    assert [row[0][-3:] for row in cells(text)[2:4]] == ["(2)", "(1)"]


def test_runs_of_the_same_name_are_named_by_it():
    text = comparison_table([RUN, replace(RUN, seed=2)], average_seeds=True)
    assert cells(text)[2][0] == "standard (2)"


def test_names_without_common_beginning_give_way_to_the_embedding():
    runs = [replace(RUN, name="a1"), replace(RUN, name="b2", seed=2)]
    assert cells(comparison_table(runs, average_seeds=True))[2][0] == "Embedding (2)"


def test_no_runs():
    with pytest.raises(ValueError, match="no runs"):
        comparison_table([])


def test_cells_with_bars_and_rows_of_wrong_length():
    assert r"a\|b" in text_table(["x"], [["a|b"]])
    assert r"a\nb" in text_table(["x"], [["a\nb"]])
    with pytest.raises(ValueError, match="cells="):
        text_table(["x", "y"], [["1"]])


def test_shorten_keeps_both_ends():
    assert shorten("abcdefgh", 8) == "abcdefgh"
    for width in range(3, 8):
        short = shorten("abcdefgh", width)
        assert len(short) == width
        assert short[0] == "a" and short[-1] == "h"
    with pytest.raises(ValueError, match="width=2"):
        shorten("abc", 2)


@pytest.mark.parametrize("test", [None, 135.12])
def test_json_round_trip(tmp_path, test):
    run = replace(RUN, name="größer", test_perplexity=test)
    (tmp_path / "summary.json").write_text(json.dumps(asdict(run)))
    assert RunSummary.from_json(tmp_path / "summary.json") == run
    assert run.total == 3_410_000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda x: x.pop("seed"), "lacks the field 'seed'"),
        (lambda x: x.update(colour=1), "unknown field 'colour'"),
        (lambda x: x.update(unit="many"), "'many' in the field 'unit'"),
        (lambda x: x.update(tokens=1.5), "1.5 in the field 'tokens'"),
        (lambda x: x.update(name=3), "3 in the field 'name'"),
        (lambda x: x.update(valid_perplexity=None), "None in the field 'valid_perplexity'"),
        (lambda x: x.update(history=[[1]]), "field 'history'"),
    ],
)
def test_bad_summary_names_file_and_field(tmp_path, change, message):
    path = tmp_path / "summary.json"
    path.write_text(json.dumps(asdict(RUN)))
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        RunSummary.from_json(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("content", [b"{", b"[]", b"\xff"])
def test_file_that_is_no_summary(tmp_path, content):
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="summary.json"):
        RunSummary.from_json(path)
