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
    assert "perplexity" in capsys.readouterr().out
    # The same settings with another tokenizer are another model.
    with pytest.raises(SystemExit):
        main(arguments(tmp_path / "moved", run))
