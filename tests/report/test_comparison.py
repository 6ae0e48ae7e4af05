import math
import subprocess
import sys
from dataclasses import replace
from itertools import combinations, pairwise

import pytest
import torch
from matplotlib.legend import Legend
from matplotlib.text import Text

from define.measures import RunSummary
from define.report import comparison_figure, draw_comparison
from define.report.comparison import panels
from define.report.heatmaps import heat_maps
from define.report.style import drawing, lines, shown_name
from define.report.svg import Canvas, svg


@pytest.fixture(autouse=True)
def as_in_a_report():
    with drawing():
        yield


def runs(count, name="penn-treebank-with-a-name-of-many-many-words-{}", first=400.0, tested=True):
    return [
        RunSummary(
            name=name.format(i),
            embedding="DeFINE",
            unit=300_000 * (i % 2),
            context=1_400_000,
            input_output=2_000_000 - 100_000 * i,
            tokens_per_second=5000.0,
            valid_perplexity=130.0 + i,
            test_perplexity=None if not tested and i == 0 else 120.0 + i,
            seed=i,
            tokens=5_000_000,
            history=tuple((1_000_000 * t, 130 + i + first * math.exp(-t)) for t in range(1, 6)),
        )
        for i in range(count)
    ]


def texts(figure):
    """Every text that is shown, with its box in pixels."""
    renderer = Canvas(figure).get_renderer()
    figure.draw_without_rendering()
    for text in figure.findobj(lambda artist: isinstance(artist, Text)):
        if text.get_visible() and text.get_text().strip():
            box = text.get_window_extent(renderer)
            if _shown(text, box, figure):
                yield text, box


def swatches(figure):
    """The coloured boxes of legends."""
    for legend in figure.findobj(Legend):
        yield from legend.get_patches()


def _shown(text, box, figure):
    """Ticks beyond the limits of an axis are artists, too, but are not drawn."""
    for axes in figure.findobj(lambda artist: hasattr(artist, "get_xticklabels")):
        for labels, axis in ((axes.get_xticklabels(), 0), (axes.get_yticklabels(), 1)):
            if text in labels:
                low, high = (
                    (axes.bbox.x0, axes.bbox.x1) if axis == 0 else (axes.bbox.y0, axes.bbox.y1)
                )
                middle = (box.x0 + box.x1, box.y0 + box.y1)[axis] / 2
                return low - 2 <= middle <= high + 2
    return True


def test_ticks_of_tiny_models_stand_apart():
    sizes = {"unit": 0, "context": 2176, "input_output": 6477}
    tiny = [replace(run, **sizes) for run in runs(1)]
    (panel,) = (panel for panel in panels(tiny) if panel.name == "perplexity")
    figure = panel.figure(tiny, lines("a"))
    digits = [box for text, box in texts(figure) if text.get_text().startswith("0.00")]
    assert len(digits) > 2
    for one, other in combinations(digits, 2):
        assert not one.padded(3).overlaps(other)


@pytest.mark.parametrize(("count", "first"), [(1, 400.0), (3, 10.0), (6, 400.0), (12, 1e5)])
def test_no_text_is_clipped_or_covers_another(count, first):
    figure = comparison_figure(runs(count, first=first))
    shown = list(texts(figure))
    assert {run.name[-5:] for run in runs(count)} <= {text.get_text()[-5:] for text, _ in shown}
    width, height = figure.bbox.width, figure.bbox.height
    for text, box in shown:
        assert 0 <= box.x0 and box.x1 <= width, text
        assert 0 <= box.y0 and box.y1 <= height, text
    shown += [(handle, handle.get_window_extent()) for handle in swatches(figure)]
    for i, (text, box) in enumerate(shown):
        for other, second in shown[:i]:
            assert not box.overlaps(second), (text, other)


def test_panels_do_not_reach_into_one_another():
    figure = comparison_figure(runs(6))
    list(texts(figure))
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    assert len(axes) == 3
    boxes = [a.get_tightbbox() for a in axes]
    assert not any(a.overlaps(b) for a, b in pairwise([*boxes, boxes[0]]))


@pytest.mark.parametrize(
    ("tested", "label"), [(True, "test perplexity"), (False, "validation perplexity")]
)
def test_test_perplexity_only_where_all_have_it(tested, label):
    figure = comparison_figure(runs(3, tested=tested))
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    assert [a.get_ylabel() for a in axes][-1] == label
    assert all(a.get_xlabel() == "parameters (millions)" for a in (axes[0], axes[-1]))


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_file_is_drawn(tmp_path, suffix):
    path = tmp_path / f"comparison.{suffix}"
    draw_comparison(runs(3, name="_$a_{}"), path)
    start = path.read_bytes()[:8]
    assert start == b"\x89PNG\r\n\x1a\n" if suffix == "png" else start.startswith(b"<svg")


def test_runs_that_diverged_or_have_no_history():
    (run,) = runs(1)
    values = {**run.__dict__, "valid_perplexity": math.inf, "test_perplexity": math.nan}
    diverged = RunSummary(**{**values, "history": ((1_000_000, math.inf),)})
    empty = RunSummary(**{**run.__dict__, "history": ()})
    diverged, empty = (replace(run, name=n) for n, run in (("up", diverged), ("none", empty)))
    for summaries in ([diverged], [diverged, run, empty], [empty]):
        shown = {text.get_text() for text, _ in texts(comparison_figure(summaries))}
        assert ("up (diverged)" in shown) == (diverged in summaries)
        assert ("Validation perplexity during training" in shown) == (run in summaries)
    # Legends of single panels name what they show.
    summaries = [diverged, run, empty]
    for panel in panels(summaries)[1:]:
        figure = panel.figure(summaries, lines("abc"))
        (legend,) = figure.legends
        names = [text.get_text() for text in legend.get_texts()]
        assert names[0] == shown_name(run.name)
        assert names[1:] == (["none"] if panel.name == "perplexity" else [])


def test_scores_near_nothing_and_perplexities_far_apart():
    low, high = (
        replace(run, test_bleu=0.3, test_perplexity=ppl)
        for run, ppl in zip(runs(2), (90.0, 1e9), strict=True)
    )
    figure = comparison_figure([low, high])
    shown = [box for _, box in texts(figure)]
    assert not any(one.overlaps(other) for one, other in combinations(shown, 2))
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    assert axes[-1].get_ylim()[0] == 0  # no BLEU is below


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("title", ["Of one line, but a long one", "Of one line\nand of another"])
def test_titles_of_heat_maps_stand_apart(count, title):
    named = [("a-run-of-a-name\nmean |r| = 0.148", torch.rand(16, 16))] * count
    figure = heat_maps(title, named, "dimension")
    svg(figure)
    shown = [box for _, box in texts(figure)]
    assert not any(one.overlaps(other) for one, other in combinations(shown, 2))


def size_axes(summaries):
    figure = comparison_figure(summaries)
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    return next(a for a in axes if a.get_ylabel() == "test perplexity")


def test_runs_that_hardly_differ_look_alike():
    first, second = (
        replace(run, test_perplexity=ppl) for run, ppl in zip(runs(2), (89.5, 91.3), strict=True)
    )
    low, high = size_axes([first, second]).get_ylim()
    assert low < 89.5 and 91.3 < high and (91.3 - 89.5) / (high - low) < 0.15


def test_runs_that_differ_in_the_seed_alone_are_joined():
    first, other = runs(2)
    seeds = [replace(first, seed=seed, test_perplexity=80.0 + seed) for seed in (1, 2, 3)]
    joined = [
        (line.get_xdata().tolist(), line.get_ydata().tolist())
        for line in size_axes([*seeds, other]).get_lines()
        if line.get_linewidth() == 3 and len(line.get_xdata()) > 1
    ]
    assert joined == [([first.total / 1e6] * 3, [81.0, 82.0, 83.0])]


def test_bleu_stands_beside_its_parameters_where_runs_translate():
    scored = [replace(run, test_bleu=30.0 + run.seed) for run in runs(3)]
    figure = comparison_figure(scored)
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    assert axes[-1].get_ylabel() == "test BLEU" and len(axes) == 4


def test_names_of_any_script_draw_without_warnings(tmp_path):
    summaries = runs(2, name="機械翻訳-{}")
    assert draw_comparison(summaries, tmp_path / "a.svg") == []
    assert "機械翻訳-1" in (tmp_path / "a.svg").read_text("utf-8")
    # Those that no font here has are said, not warned of by Matplotlib.
    assert set(draw_comparison(summaries, tmp_path / "a.png")) <= set("機械翻訳")
    assert draw_comparison(runs(2, name="\U0010fffd{}"), tmp_path / "b.png") == ["\U0010fffd"]


def test_no_runs():
    with pytest.raises(ValueError, match="no runs"):
        comparison_figure([])


def test_import_leaves_heavy_packages_alone():
    code = (
        "import sys, define.measures, define.report, define.measures.paper;"
        "assert not {'matplotlib', 'lightning'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def history_label(summaries):
    figure = comparison_figure(summaries)
    axes = figure.findobj(lambda artist: hasattr(artist, "get_xticklabels"))
    history = next(a for a in axes if a.get_ylabel() == "validation perplexity")
    return history.get_xlabel(), [line.get_xdata().tolist() for line in history.get_lines()]


def test_epochs_where_all_runs_know_them_and_they_are_alike():
    known = [replace(run, validations=2) for run in runs(3)]  # 5 validations of 1 M tokens
    label, places = history_label(known)
    assert label == "epochs of training" and places == [[0.5, 1, 1.5, 2, 2.5]] * 3
    one_epoch = [replace(run, validations=5) for run in runs(4)]
    other = replace(known[0], validations=1)
    for summaries in ([*known, runs(1)[0]], [*known, other], one_epoch):
        label, places = history_label(summaries)
        assert label == "training tokens (millions)" and places == [[1, 2, 3, 4, 5]] * 4


def test_runs_that_differ_in_the_seed_share_colour_and_line_but_no_marker():
    styles = lines(["a", "b", "a", "c", "a"])
    colours = [style["color"] for style in styles]
    assert colours[0] == colours[2] == colours[4] and len(set(colours)) == 3
    assert len({(s["color"], s["linestyle"], s["marker"]) for s in styles}) == 5
    looks = {(s["linestyle"], s["marker"]) for s in lines(range(8))}  # in grey
    assert len(looks) == 8
