"""A run whose tables were compressed is a run: it opens, and is what it was within rounding."""

import shutil

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import define
from define import AdaptiveEmbedding, DeFINE, HashEmbedding, ProjectedEmbedding
from define.__main__ import main
from define.compression import stored_bytes
from define.embedding import tied_table, whole_table
from define.recipes.compressed import swap_tables
from define.recipes.models import lstm


def adaptive(v, m):
    return AdaptiveEmbedding(v, m, cutoffs=[10, 30], div_value=2)


def narrow(v, m):
    return AdaptiveEmbedding(v, m, cutoffs=[10, 30], map_dim=6, div_value=1)


def define_on(map):
    return lambda v, m: DeFINE(v, m, map=map(v, m), expand_dim=16, depth=2, max_groups=2)


MODELS = {
    "standard": (nn.Embedding, {}),
    "hashed": (lambda v, m: HashEmbedding(v, m, num_buckets=20), {}),
    "DeFINE": (lambda v, m: DeFINE(v, m, map=4, expand_dim=8, depth=1, max_groups=1), {}),
    "its rows": (define_on(nn.Embedding), {"tie": "embedding"}),
    "cut": (lambda v, m: ProjectedEmbedding(v, m, map=4), {"cutoffs": [10, 30]}),
    "first band": (define_on(nn.Embedding), {"cutoffs": [10, 30], "tie": "first-band"}),
    "adaptive": (adaptive, {}),
    "adaptive, all projected": (narrow, {}),
    "DeFINE on adaptive": (define_on(adaptive), {}),
    "first band of that": (define_on(adaptive), {"tie": "first-band"}),
}


@pytest.mark.parametrize("kind", MODELS)
def test_equal_rows_in_the_places_of_tables_change_nothing(kind):
    make, options = MODELS[kind]
    sizes = {"embedding_dim": 8, "embedding_std": 0.4, "hidden_size": 12, "num_layers": 1}
    model = lstm(50, make, **sizes, **options).eval()
    tokens, targets = torch.randint(50, (2, 4, 20))
    with torch.no_grad():
        before = model(tokens, targets)[0]
        old = tied_table(model.embedding)
        (name,) = (name for name, part in model.named_modules() if part is old)
        swap_tables(model, {name: nn.Embedding.from_pretrained(whole_table(old).clone())})
        assert all(part is not old for part in model.modules())
        assert_close(model(tokens, targets)[0], before)
        # And the output reads the new table.
        tied_table(model.embedding).weight.mul_(3)
        assert (model.head(torch.ones(1, 12), targets[0, :1]) - before).abs().min() > 1e-4


@pytest.fixture
def old(request, tmp_path, cache):
    fixtures = request.config.rootpath / "tests/fixtures/0.1"
    return shutil.copytree(fixtures / "runs-finished" / request.param, tmp_path / "old")


@pytest.mark.parametrize("old", ["define", "transformer-xl", "translation"], indirect=True)
def test_it_opens_and_is_measured(old, tmp_path, request, capsys):
    small, data = tmp_path / "small", request.config.rootpath / "tests/fixtures/0.1"
    data /= "pairs" if (old / "tokenizer.json").exists() else "text"
    main(["compress", str(old), "--share", "0.9", "--output", str(small)])
    said = capsys.readouterr().out
    before, after = (define.load(run, data_path=data) for run in (old, small))
    assert stored_bytes(after.model) < stored_bytes(before.model)
    assert f"{stored_bytes(after.model):,} bytes" in said
    assert "perplexity was not measured" in said and not after.summary  # the text has moved
    assert after.vocabulary == before.vocabulary
    was, new = (each.evaluate("test").perplexity for each in (before, after))
    assert new == pytest.approx(was, rel=0.05)
    main(["evaluate", str(small), "--data.path", str(data)])
    assert f"perplexity {new:.2f}" in capsys.readouterr().out
    assert "define.load" in (small / "README.md").read_text()


@pytest.mark.parametrize("old", ["define", "translation"], indirect=True)
def test_what_it_does_to_perplexity_is_measured(old, tmp_path, request, capsys, monkeypatch):
    monkeypatch.chdir(request.config.rootpath / "tests/fixtures/0.1")
    small = tmp_path / "small"
    main(["compress", str(old), "--share", "0.9", "--output", str(small)])
    was, now = (define.load(run).summary["valid_perplexity"] for run in (old, small))
    assert f"validation perplexity {was:.2f} -> {now:.2f}" in capsys.readouterr().out
    run = define.load(small)
    size = stored_bytes(run.model)
    assert run.summary["input_output"] == run.model.parameter_counts().input_output
    assert run.summary["stored_bytes"] == size
    main(["compare", str(old), str(small), "--figure", str(tmp_path / "f.svg")])
    header, _, *rows = capsys.readouterr().out.splitlines()
    row = next(row for row in rows if "small" in row)
    cells = [[cell.strip() for cell in line.split("|")] for line in (header, row)]
    assert dict(zip(*cells, strict=True))["MB"] == f"{size / 1e6:.2f}"
    assert f"{now:.1f}" in row and row.endswith("– |")  # nothing was tested
    main(["analyze", str(small), "--output", str(tmp_path / "page")])


@pytest.mark.parametrize("old", ["define"], indirect=True)
def test_a_large_change_is_written_on_request_alone(old, tmp_path, monkeypatch):
    found = iter([10.0, 15.1, 10.0, 15.1])
    kind = type(define.load(old).experiment)
    monkeypatch.setattr(kind, "valid_perplexity", lambda self: next(found))
    command = ["compress", str(old), "--share", "0.5", "--output", str(tmp_path / "small")]
    with pytest.raises(SystemExit) as exit:
        main(command)
    assert "--accept the change" in str(exit.value.code) and not (tmp_path / "small").exists()
    main([*command, "--accept"])
    assert define.load(tmp_path / "small").summary["valid_perplexity"] == 15.1


@pytest.mark.parametrize("old", ["lstm"], indirect=True)
def test_it_is_not_trained_on(old, tmp_path):
    main(["compress", str(old), "--share", "0.9", "--output", str(tmp_path / "small")])
    with pytest.raises(SystemExit) as exit:
        main(["train", "text", "--data.path", str(tmp_path), "--run", str(tmp_path / "small")])
    assert "is a compressed run" in str(exit.value.code)


@pytest.mark.parametrize("old", ["lstm"], indirect=True)
@pytest.mark.parametrize(
    "content", ["{", "[]", '{"nothing": {"class": "RoundedEmbedding"}}', '{"embedding": 3}']
)
def test_damaged_tables_are_named(old, content):
    (old / "tables.json").write_text(content)
    with pytest.raises(ValueError, match=r"tables\.json"):
        define.load(old)


@pytest.mark.parametrize("old", ["lstm"], indirect=True)
def test_widths_are_not_for_runs(old, tmp_path):
    with pytest.raises(SystemExit) as exit:
        main(["compress", str(old), "--map", "2", "--output", str(tmp_path / "small")])
    assert "--map 2 is for checkpoints" in str(exit.value.code)
