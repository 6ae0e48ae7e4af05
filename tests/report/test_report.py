import json
import math
from dataclasses import replace

import pytest
import torch
from test_draw import texts
from tiny_runs import COUNTS, WORDS

from define.measures import read_table
from define.report import some_words, write_report
from define.report.heatmaps import correlation_figure, group_figure
from define.report.sections import report_sections


@pytest.fixture(scope="module")
def sections(findings):
    return report_sections(findings, WORDS)


def test_no_text_of_a_figure_is_clipped_or_covers_another(sections):
    for picture in (picture for section in sections for picture in section.pictures):
        figure = picture.figure
        shown = list(texts(figure))
        for text, box in shown:
            assert 0 <= box.x0 and box.x1 <= figure.bbox.width, (picture.name, text)
            assert 0 <= box.y0 and box.y1 <= figure.bbox.height, (picture.name, text)
        for i, (text, box) in enumerate(shown):
            for other, second in shown[:i]:
                assert not box.overlaps(second), (picture.name, text, other)


def test_compared_heat_maps_share_one_scale(sections):
    for section in sections:
        limits = {
            (picture.name.rstrip("-123"), image.get_clim())
            for picture in section.pictures
            for axes in picture.figure.axes
            for image in axes.images
        }
        assert len(limits) == len({name for name, _ in limits}) <= 1


def test_files_beside_the_page(report, findings):
    folder = report.parent
    markdown = (folder / "report.md").read_text("utf-8")
    names = {line.split("](")[1].rstrip(")") for line in markdown.splitlines() if "](" in line}
    assert names == {path.name for path in folder.glob("*.png")} and len(names) >= 9
    for run in findings:
        assert f"### {run.name}" in markdown
    assert "constant" in markdown and "| projected " in markdown


def test_numbers_are_valid_json(report, findings):
    numbers = json.loads((report.parent / "numbers.json").read_text("utf-8"))
    assert [run["name"] for run in numbers] == [run.name for run in findings]
    assert numbers[1]["unweighted"]["constant_dimensions"] == [3]
    for run, found in zip(numbers, findings, strict=True):
        assert run["unweighted"]["effective_rank"] == found.unweighted.effective_rank
        assert sum(band["tokens"] for band in run["bands"]) == 240
        assert len(run["map"]["words"]) == len(run["map"]["places"])


def test_a_single_run_of_nothing_but_nan(findings, tmp_path):
    run = findings[0]
    summary = replace(run.summary, valid_perplexity=math.nan, history=())
    bands = tuple(replace(band, nll=math.nan) for band in run.bands)
    dead = replace(run.unweighted, matrix=torch.full((24, 24), torch.nan))
    dead = replace(dead, singular_values=torch.zeros(24), nonfinite=tuple(range(24)))
    broken = replace(run, summary=summary, bands=bands, unweighted=dead, similarities={})
    page = write_report([broken], WORDS, tmp_path / "new" / "folder")
    assert "not finite" in page.read_text("utf-8")


def test_reports_need_runs_of_different_names(findings, tmp_path):
    with pytest.raises(ValueError, match="no runs"):
        write_report([], WORDS, tmp_path)
    with pytest.raises(ValueError, match="different names"):
        write_report([findings[0], findings[0]], WORDS, tmp_path)
    with pytest.raises(ValueError, match="nothing to draw"):
        correlation_figure({})
    with pytest.raises(ValueError, match="nothing to draw"):
        group_figure("standard", [])


def test_words_to_look_at_get_rarer():
    words = [f"word{'a' * i}" for i in range(2000)]
    counts = torch.arange(2003, 3, -1)
    found = some_words(words, counts, 6)
    assert len(found) == 6 and found == sorted(found) and found[0] == 100
    assert some_words(["a", "12345", "seven"], torch.tensor([9, 9, 9])) == [2]
    assert all(WORDS[i].isalpha() for i in some_words(WORDS, COUNTS))


def test_tables_from_files(tmp_path):
    import numpy as np
    from safetensors.torch import save_file

    table = torch.randn(20, 4)
    np.save(tmp_path / "table.npy", table.numpy())
    assert torch.equal(read_table(tmp_path / "table.npy", 20), table)
    save_file({"wte": table, "wpe": torch.randn(7, 4)}, tmp_path / "model.safetensors")
    assert torch.equal(read_table(tmp_path / "model.safetensors", 20), table)
    save_file({"a": table, "b": table + 1}, tmp_path / "two.safetensors")
    for name, message in (("table.npy", "21 rows; it has none"), ("gone.npy", "neither a run")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            read_table(tmp_path / name, 21)
    with pytest.raises(ValueError, match="several, a, b"):
        read_table(tmp_path / "two.safetensors", 20)
    (tmp_path / "table.txt").touch()
    with pytest.raises(ValueError, match=r"\.npy or \.safetensors"):
        read_table(tmp_path / "table.txt", 20)
