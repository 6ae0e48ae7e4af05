import json
import math
import re
from dataclasses import replace

import pytest
import torch
from tiny_runs import V
from torch import nn

from define.compression import Candidate
from define.measures.subject import Readings
from define.report import Part, Request, Section, write_report
from define.report.compression import SmallerTable, compression_figure
from define.report.heatmaps import heat_maps
from define.report.style import drawing, lines
from define.report.svg import svg


@pytest.fixture(scope="module")
def numbers(report):
    return json.loads((report.parent / "numbers.json").read_text("utf-8"))


def test_files_beside_the_page(report, subjects):
    folder = report.parent
    markdown = (folder / "report.md").read_text("utf-8")
    names = {line.split("](")[1].rstrip(")") for line in markdown.splitlines() if "](" in line}
    assert names == {path.name for path in folder.glob("*.svg")} and len(names) >= 14
    assert "constant" in markdown and "| projected " in markdown
    assert markdown.count("\n### ") == len(subjects)


def test_markdown_shows_words_as_they_are(report):
    markdown = (report.parent / "report.md").read_text("utf-8")
    text = "\n".join(line for line in markdown.splitlines() if not line.startswith("    "))
    assert "&lt;unk>" in text and "&lt;script>" in text and r"\*b\*" in text and r"a\|b" in text
    assert "<" not in text
    table = next(part for part in text.split("\n\n") if part.startswith("| word"))
    assert len({line.replace(r"\|", "").count("|") for line in table.splitlines()}) == 1


def test_numbers_stay_behind_words_that_are_read_from_right_to_left(report):
    for name in ("report.html", "report.md"):
        text = (report.parent / name).read_text("utf-8")
        assert re.search(
            "\u2068(\u05e9\u05dc\u05d5\u05dd|\u0645\u0631\u062d\u0628\u0627)\u2069 0", text
        )
        assert not re.search(r"[\u0590-\u06ff] 0\.", text)


def test_numbers_of_every_part(numbers, subjects):
    assert [run["name"] for run in numbers] == [subject.name for subject in subjects]
    assert numbers[1]["unweighted"]["constant_dimensions"] == [3]
    for run, subject in zip(numbers, subjects, strict=True):
        once, weighted = Readings(subject).output
        assert run["unweighted"]["effective_rank"] == once.effective_rank
        assert run["weighted_by_frequency"]["effective_rank"] == weighted.effective_rank
        assert run["summary"]["test_bleu"] == subject.summary.test_bleu
        assert sum(band["tokens"] for band in run["bands"]) == 240
        assert len(run["map"]["words"]) == len(run["map"]["places"])
        assert len(run["neighbours"]) == 6 and list(run["similarities"]) == ["other"]
        assert [shown["line"] for shown in run["translations"]] == [*range(1, 31, 3)]
    assert [len(run["layers"]) for run in numbers] == [0, 2, 5, 0]


def test_bands_of_other_words_have_a_table_of_their_own(subjects, tmp_path):
    first, second, third, _ = subjects
    flipped = replace(second, counts=second.counts.flip(0))
    folder = write_report([first, flipped, third], tmp_path).parent
    markdown = (folder / "report.md").read_text("utf-8")
    grids = [part for part in markdown.split("\n\n") if part.startswith("| ranks ")]
    assert ["projected" in grid for grid in grids] == [False, True]
    for grid, name in zip(grids, (first.name, "projected"), strict=True):
        bands = json.loads((folder / "numbers.json").read_text("utf-8"))
        bands = next(run["bands"] for run in bands if run["name"] == name)
        rows = [line.split("|")[3].strip() for line in grid.splitlines()[2:-1]]
        assert rows == [str(band["tokens"]) for band in bands]
    assert "projected" not in (folder / "frequency-gain.svg").read_text("utf-8")


def test_the_unit_runs_once_for_the_layers_and_once_for_the_table(subjects, words, tmp_path):
    subject = replace(subjects[2], losses=None)
    seen = []
    handle = subject.table.expand.linears[0].register_forward_hook(
        lambda _, __, rows: seen.append(len(rows))
    )
    write_report([subject], tmp_path, tables={"other": torch.randn(V, 4)})
    handle.remove()
    assert sum(seen) == 2 * V


def test_compared_heat_maps_share_one_scale(subjects, words):
    from define.report.parts.depth import DepthPart

    styles = dict(zip((s.name for s in subjects), lines("abcd"), strict=True))
    request = Request(words, (), {}, "test", styles)
    part = DepthPart()
    with drawing():
        found = {s.name: part.measure(Readings(s), request) for s in subjects}
        pictures = part.section(found, request).pictures
    images = [i for p in pictures for axes in p.figure.axes for i in axes.images]
    assert len(images) == 7 and len({image.get_clim() for image in images}) == 1


def test_no_marker_lies_on_the_frame(subjects, words):
    from define.report.parts.depth import DepthPart

    styles = dict(zip((s.name for s in subjects), lines("abcd"), strict=True))
    request = Request(words, (), {}, "test", styles)
    part = DepthPart()
    with drawing():
        found = {s.name: part.measure(Readings(s), request) for s in subjects}
        pictures = part.section(found, request).pictures
        name, layer = next((n, layers[0]) for n, (layers, *_) in found.items() if layers)
        matrix = 0.97 * layer.correlation.matrix + 0.03 * torch.eye(len(layer.correlation.matrix))
        values = layer.correlation.singular_values**0.97
        near = replace(layer.correlation, matrix=matrix, singular_values=values)
        level = part.section({name: ([layer, replace(layer, correlation=near)],)}, request).pictures
    for picture in (*pictures[:2], *level[:2]):
        (axes,) = picture.figure.axes
        highest = max(y for line in axes.get_lines() for y in line.get_ydata())
        assert axes.get_ylim()[1] > 1.02 * highest and axes.get_ylim()[0] == 0


def test_a_single_run_of_nothing_but_nan(subjects, tmp_path):
    summary = replace(subjects[0].summary, valid_perplexity=math.nan, test_bleu=None, history=())
    nll = torch.full((3,), math.nan)
    broken = replace(
        subjects[0],
        table=torch.cat([torch.randn(V, 2), torch.ones(V, 3)], -1),
        summary=summary,
        losses=lambda: (torch.tensor([1, 2, 3]), nll),
        translations=(),
    )
    page = write_report([broken], tmp_path / "new" / "folder")
    assert "constant" in page.read_text("utf-8")


def test_a_new_part_is_a_section_of_page_markdown_and_json(subjects, tmp_path, monkeypatch):
    from define.report import parts

    class WidthPart(Part[int]):
        def measure(self, readings, request):
            return len(readings.output[0].matrix)

        def as_json(self, found, request):
            return {"width": found}

        def section(self, found, request):
            return Section("Widths", f"Widths are {sorted(found.values())}.")

    monkeypatch.setattr(parts, "PARTS", (WidthPart(),))
    page = write_report(subjects[:2], tmp_path)
    for file in (page, tmp_path / "report.md"):
        assert "Widths" in file.read_text("utf-8")
    assert [run["width"] for run in json.loads((tmp_path / "numbers.json").read_text())] == [24, 24]


def test_a_folder_that_cannot_be_is_said_before_anything_is_measured(
    subjects, tmp_path, monkeypatch
):
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setattr("define.report.parts.PARTS", None)
    with pytest.raises(NotADirectoryError, match="file is no folder"):
        write_report(subjects[:1], file)


def test_reports_need_runs_of_different_names_and_one_vocabulary(subjects, words, tmp_path):
    with pytest.raises(ValueError, match="no runs"):
        write_report([], tmp_path)
    with pytest.raises(ValueError, match="different names"):
        write_report([subjects[0], subjects[0]], tmp_path)
    other = replace(subjects[1], words=words[::-1])
    with pytest.raises(ValueError, match="projected has another vocabulary than a-standard"):
        write_report([subjects[0], other], tmp_path)
    with pytest.raises(ValueError, match="5 words and 300 rows"):
        replace(subjects[0], words=words[:5])
    with pytest.raises(ValueError, match="nothing to draw"):
        heat_maps("title", [], "dimension")


def test_figures_of_any_script_draw_without_warnings_and_are_the_same_again():
    def drawn():
        with drawing():
            figure = heat_maps("機械翻訳 שלום", [("<ű> & 한국어", torch.eye(3))], "次元")
            return svg(figure, 'a "description" of <unk>')

    text = drawn()
    for name in ("機械翻訳 שלום", "&lt;ű&gt; &amp; 한국어", "&quot;description&quot; of &lt;unk>"):
        assert name in text
    assert text == drawn()


def test_a_compression_of_several_tables_says_of_which_the_ways_are():
    table = torch.randn(20, 4)
    ways = (Candidate("int4 rows", 10, 0.1), Candidate("int8 rows", 20, 0.01))
    made = nn.Embedding.from_pretrained(table)
    tables = [SmallerTable(n, table, made, torch.ones(20), None, ways) for n in ("input", "head")]
    for shown, end in ((tables[:1], "was taken"), (tables, "was taken\n(input)")):
        assert compression_figure(shown).axes[1].get_title("left").endswith(end)


def test_a_compression_says_where_rows_are_zeros():
    table = torch.randn(20, 4)
    table[10:] = 0
    made = nn.Embedding.from_pretrained(torch.randn(20, 4))
    report = SmallerTable("input", table, made, torch.arange(20, 0, -1)).report()
    assert "11-20 (rows of zeros)" in report[0] and "inf" not in report[0]
