import logging
import re

import pytest
from tiny import arguments, write_text

from define.__main__ import main
from define.data import Subwords
from define.recipes.settings import open_run


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_run_with_subwords_has_all_that_it_needs(tmp_path, cache, capsys, mark):
    text = write_text(tmp_path / "text", train=40)
    for file in text.iterdir():
        file.write_text(mark + file.read_text().replace("\n", ".\r\n"), "utf-8")
    run = tmp_path / "run"
    subwords = ["--data.tokenizer", "bpe", "--data.size", "40"]
    main([*arguments(text, run, *subwords), "--data.tokens", "300"])
    assert (run / "vocabulary.txt").read_text().split() == [
        *Subwords.read(run / "tokenizer.json").vocabulary.words
    ]
    text.rename(tmp_path / "moved")
    experiment, _ = open_run(run)
    # Words that no text had, with punctuation, are known.
    assert experiment.generate("w07\u00a0w1.", 0) == "w07\u00a0w1."
    assert experiment.corpus.tokenizer.unknown not in experiment.corpus.encode("w1w2.w3")
    capsys.readouterr()
    main(["evaluate", str(run), "--data.path", str(tmp_path / "moved")])
    said = capsys.readouterr().out
    assert re.search(r"perplexity \d+\.\d+, \d+\.\d+ per word, \d+\.\d+ per character; ", said)
    # The same settings with another tokenizer are another model.
    with pytest.raises(SystemExit):
        main(arguments(tmp_path / "moved", run))


def test_training_says_what_the_text_consists_of(tmp_path, cache, caplog):
    text = write_text(tmp_path / "text", train=40)
    (text / "test.txt").write_text("w01 w02 home. w03\n" * 20)
    with caplog.at_level(logging.INFO, "define"):
        main(arguments(text, tmp_path / "run"))
    assert "train: 400 tokens of 49 types, 0.0% <unk>; 400 words" in caplog.text
    [warning] = [r.message for r in caplog.records if r.levelno == logging.WARNING]
    assert warning.startswith("20.0% of test became <unk>")
