"""The commands, from their arguments to what they print."""

import json

from messages import failure
from tiny import arguments, experiment, write_text

from define.__main__ import main


def test_train_prints_a_row_and_goes_on_no_further(trained, tmp_path, capsys):
    folder, run = trained
    main(arguments(folder, tmp_path / "run", "--training.learning_rate", "0.03"))
    out = capsys.readouterr().out
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert f"{summary['test_perplexity']:.2f}" in out and "| run " in out
    # The same settings, the same numbers.
    other = json.loads(run.summary.read_text())
    assert summary["history"] == other["history"]
    assert summary["test_perplexity"] == other["test_perplexity"] < 20


def test_evaluate_prints_the_perplexity_of_a_split(trained, capsys):
    folder, run = trained
    summary = json.loads(run.summary.read_text())
    main(["evaluate", str(run.path)])
    found = summary["test_perplexity"]
    # 200 tokens, each with a space behind; words have three letters, line ends none.
    expected = (
        f"{run.path}: test perplexity {found:.2f}, {found ** (1 / (0.9 * 4 + 0.1)):.3f} per "
        "character; 200 tokens, 0.0% <unk>\n"
    )
    assert capsys.readouterr().out == expected
    main(["evaluate", str(run.path), "--split", "valid"])
    assert f"valid perplexity {summary['valid_perplexity']:.2f}" in capsys.readouterr().out
    main(["evaluate", str(run.path), "--batch_size", "1"])
    setting = experiment(folder)
    run.load_weights(setting.model)
    expected = setting.evaluate(batch_size=1).perplexity
    assert f"{expected:.2f}" != f"{summary['test_perplexity']:.2f}"
    assert f"test perplexity {expected:.2f}" in capsys.readouterr().out


def test_evaluate_with_a_cache(trained, capsys):
    _, run = trained
    main(["evaluate", str(run.path)])
    plain = capsys.readouterr().out.strip()
    main(["evaluate", str(run.path), "--cache.size", "30", "--cache.weight", "0"])
    assert capsys.readouterr().out == f"{plain} with cache size 30, theta 0.66, weight 0.0\n"
    main(["evaluate", str(run.path), "--tune_cache"])
    assert "with cache size 2000, theta " in capsys.readouterr().out
    assert "size=-1" in failure(capsys, "evaluate", run.path, "--cache.size", -1)


def test_evaluate_finds_a_text_that_was_moved(tmp_path, folder, capsys):
    main(arguments(folder, tmp_path / "run", "--training.length", "50"))
    folder.rename(tmp_path / "moved")
    message = failure(capsys, "evaluate", tmp_path / "run")
    assert str(folder) in message
    main(["evaluate", str(tmp_path / "run"), "--data.path", str(tmp_path / "moved")])
    assert "test perplexity" in capsys.readouterr().out


def test_evaluate_uses_the_vocabulary_of_the_run(tmp_path, folder, capsys):
    main(arguments(folder, tmp_path / "run", "--training.length", "50"))
    main(["evaluate", str(tmp_path / "run")])
    before = capsys.readouterr().out.splitlines()[-1]
    with (folder / "train.txt").open("a") as file:
        file.write("many many new new words words\n")
    main(["evaluate", str(tmp_path / "run")])
    assert capsys.readouterr().out.splitlines()[-1] == before


def test_generate_continues_a_prompt_without_the_text(tmp_path, capsys):
    folder = write_text(tmp_path / "text")
    more = ("--training.learning_rate", "0.03", "--training.epochs", "2")
    main(arguments(folder, tmp_path / "run", *more))
    folder.rename(tmp_path / "gone")
    capsys.readouterr()
    generate = ["generate", str(tmp_path / "run"), "--prompt", "w05 w06", "--length", "3"]
    main([*generate, "--temperature", "0"])
    assert capsys.readouterr().out == "w05 w06 w07 w08 w09\n"  # it learned to count
    samples = []
    for seed in (1, 1, 2):
        main([*generate[:-1], "200", "--top_k", "20", "--seed", str(seed)])
        samples.append(capsys.readouterr().out)
    assert samples[0] == samples[1] != samples[2]
    assert "<eos>" not in samples[0] and samples[0].count("\n") > 1
    main(["generate", str(tmp_path / "run"), "--length", "5"])
    assert len(capsys.readouterr().out.split()) >= 4


def test_compare_has_a_row_for_each_run_and_a_figure(trained, tmp_path, capsys, monkeypatch):
    folder, run = trained
    same = ("--training.learning_rate", "0.03")
    main(arguments(folder, tmp_path / "other", "--seed", "2", *same))
    capsys.readouterr()
    figure = tmp_path / "figure.svg"
    both = [str(run.path), str(tmp_path / "other")]
    main(["compare", *both, "--figure", str(figure)])
    out = capsys.readouterr().out
    assert "| define " in out and "| other " in out and "test ppl" in out
    assert figure.read_text().count("<svg") == 1
    main(["compare", *both, "--figure", str(figure), "--average_seeds"])
    assert "(2)" in capsys.readouterr().out
    main(arguments(folder, tmp_path / "longer", *same, "--training.length", "50"))
    capsys.readouterr()
    main(["compare", both[0], str(tmp_path / "longer"), "--figure", str(figure), "--average_seeds"])
    assert "(2)" not in capsys.readouterr().out  # no seeds of one setting
    monkeypatch.chdir(tmp_path)
    main(["compare", *both, "--json"])
    summaries = json.loads(capsys.readouterr().out)
    assert [summary["name"] for summary in summaries] == ["define", "other"]
    assert (tmp_path / "comparison.png").read_bytes().startswith(b"\x89PNG")


def test_parameters_as_json(capsys):
    main(["parameters", "--json"])
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) > 20 and all(isinstance(row, dict) for row in rows)


def test_embeddings_prints_the_costs(capsys):
    main(["embeddings", "--num_embeddings", "50000", "--embedding_dim", "512"])
    out = capsys.readouterr().out
    assert "DeFINE" in out and "25.60" in out  # 50,000 x 512, in millions
