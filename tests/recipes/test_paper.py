import json
import re
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest

from define import recipes
from define.measures.counting import shapes_only
from define.measures.paper import lstm, paper_json, paper_rows, paper_table, unit
from define.recipes.settings import recipe_parser

GUIDE = (Path(__file__).parents[2] / "docs/guide/train.md").read_text("utf-8")
COMMANDS = dict(re.findall(r"^\| (.+) \| `(wikitext-103.*)` \|$", GUIDE, re.MULTILINE))


@pytest.fixture(scope="module")
def rows():
    return paper_rows()


@pytest.fixture(scope="module")
def table(rows):
    """Our counts by the first words of table and name."""
    return {(row.table.split(":")[0], row.name): row.ours for row in rows}


@pytest.mark.parametrize(
    ("table_name", "name", "context", "input_output"),
    [
        ("Table 1a", "R1 standard", 23_357_440, 68_807_895),
        ("Table 1a", "R2 adaptive", 23_357_440, 9_253_212),
        ("Table 1a", "R3 + DeFINE, N 3", 23_357_440, 9_253_212),
        ("Table 1a", "R4 + DeFINE, N 7", 24_734_720, 13_895_946),
        ("Table 1a", "R5 + DeFINE, N 11", 26_243_072, 18_549_432),
        ("Table 2", "n 410, published", 41_066_400, 110_040_318),
        ("Table 2", "n 384", 36_249_600, 103_079_130),
        ("Table 2", "n 256", 36_249_600, 69_201_882),
        ("Table 2", "n 128", 36_249_600, 34_734_810),
        ("Table 2", "n 64", 36_249_600, 17_501_274),
        ("Table 2", "n 384 + DeFINE", 36_249_600, 103_079_130),
        ("Table 2", "n 256 + DeFINE", 36_249_600, 69_201_882),
        ("Table 2", "n 128 + DeFINE", 36_249_600, 34_734_810),
        ("Table 2", "n 64 + DeFINE", 36_249_600, 17_501_274),
    ],
)
def test_context_and_input_output_are_exact(table, table_name, name, context, input_output):
    ours = table[table_name, name]
    assert (ours.context, ours.input_output) == (context, input_output)


def test_awd_lstm_is_exact(table):
    assert table["Penn Treebank", "AWD-LSTM"].total == 24_221_600
    define = table["Penn Treebank", "AWD-LSTM + DeFINE"]
    assert define.context + define.input_output == 19_673_760


def test_exact_rows_come_out_as_printed(rows):
    exact = [row for row in rows if row.exact]
    assert len(exact) == 8
    for row in exact:
        assert row.max_groups is None
        for part in ("unit", "context", "input_output", "total"):
            printed = getattr(row.paper, part)
            if printed is not None:
                digits = 0 if isinstance(printed, int) and printed else 2
                assert round(getattr(row.ours, part) / 1e6, digits) == printed


def test_rows_with_a_unit_are_never_called_exact(rows):
    for row in rows:
        assert not (row.exact and row.ours.unit)
        assert (row.max_groups is None) == (row.ours.unit == 0)


def test_transformer_xl_has_one_unit_for_every_map_width(table):
    units = {table["Table 2", f"n {n} + DeFINE"].unit for n in (384, 256, 128, 64)}
    assert len(units) == 1


@pytest.mark.parametrize(
    ("n", "depth", "expand_dim", "chosen", "target"),
    [
        (256, 3, 1024, 32, 0.41),
        (384, 7, 1024, 128, 1.83),
        (512, 11, 1024, 512, 3.89),
        (256, 3, 1536, 64, 33.15 - 32.61),
        (384, 7, 2048, 128, 43.19 - 38.63),
    ],
)
def test_g_max_is_the_nearest_power_of_two(n, depth, expand_dim, chosen, target):
    def size(max_groups):
        embed = partial(
            unit, embedding_dim=n, expand_dim=expand_dim, depth=depth, max_groups=max_groups
        )
        with shapes_only():
            return lstm(n, embed=embed).parameter_counts().unit / 1e6

    powers = [2**i for i in range(10) if n % 2**i == 0]
    assert min(powers, key=lambda g: abs(size(g) - target)) == chosen


def test_every_row_of_the_paper(rows):
    counts = {}
    for row in rows:
        counts[row.table.split(":")[0]] = counts.get(row.table.split(":")[0], 0) + 1
    assert counts == {
        "Table 1a": 5,
        "Table 2": 9,
        "Penn Treebank": 2,
        "WMT14 English-German": 4,
        "Ablation": 8,
        "Depth and width": 9,
    }


def test_table_layout(rows):
    lines = paper_table(rows).splitlines()
    assert max(map(len, lines)) <= 100
    for row in rows:
        assert any(line.startswith(f"| {row.name} ") for line in lines)
    tables = [line for line in lines if line.startswith("|")]
    assert len(tables) == len(rows) + 2 * 6
    assert "| R2 adaptive       |     – | 0.00 |     0 |   23.36 | 23.36 |" in "\n".join(lines)


def test_json(rows):
    content = json.loads(json.dumps(paper_json(rows)))
    assert len(content) == len(rows)
    first = content[0]
    assert first["paper"] == {"total": 92.17, "unit": 0, "context": 23.36, "input_output": 68.81}
    assert first["ours"] == {
        "unit": 0,
        "context": 23_357_440,
        "input_output": 68_807_895,
        "total": 92_165_335,
    }
    assert first["exact"] is True


@pytest.mark.parametrize("name", COMMANDS)
def test_the_options_in_the_guide_make_the_models_of_the_tables(name, rows):
    row = next(row for row in rows if row.name == name)
    recipe, *options = COMMANDS[name].split()
    parser = recipe_parser(recipe)
    settings = dict(parser.instantiate(parser.parse_args(["--data.path", "text", *options])))
    settings["data"] = SimpleNamespace(open=lambda: SimpleNamespace(vocabulary=range(267_735)))
    with shapes_only():
        model = getattr(recipes, recipe.replace("-", "_"))(**settings).model
    counts = model.parameter_counts()
    shared = 0 if recipe.endswith("lstm") else 820  # attention's biases are not in the printed ones
    assert (counts.context - shared, counts.input_output) == (
        row.ours.context,
        row.ours.input_output,
    )
    # Reduce reads the Map, too.
    more = model.embedding.map_dim * model.embedding.embedding_dim if row.ours.unit else 0
    assert counts.unit == row.ours.unit + more


def test_the_guide_has_the_rows_of_one_width_of_transformer_xl_and_all_of_the_lstm():
    assert len(COMMANDS) == 5 + 3
