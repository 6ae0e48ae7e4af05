import math

import pytest

from define.data import Text


def test_statistics(tmp_path):
    (tmp_path / "train.txt").write_text(" the cat \n\n<unk> sét the <eos> é\n", "utf-8")
    (tmp_path / "valid.txt").write_text("a dog\r\n")
    corpus = Text(tmp_path, min_count=1).open()
    found = corpus.statistics("train")
    assert found.tokens == found.words == 10 and found.types == 6
    assert found.unknown == 2 and found.replaced == 1  # <unk> is written, <eos> became it
    # Letters, a space behind each word, and three line ends.
    assert found.characters == 3 + 3 + 5 + 3 + 3 + 5 + 1 + 7 + 3
    assert str(found) == (
        "train: 10 tokens of 6 types, 20.0% <unk>; 10 words, 3.30 characters per token"
    )
    valid = corpus.statistics("valid")
    assert (valid.tokens, valid.unknown, valid.replaced, valid.characters) == (3, 2, 2, 7)
    assert valid.warning and "66.7% of valid became <unk>" in valid.warning
    assert found.perplexity_per_word(9.0) == 9.0
    assert math.isclose(valid.perplexity_per_character(8.0), 8 ** (3 / 7))


def test_unknown_words_that_are_written_in_the_text_are_no_reason_to_warn(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("a <unk> <unk>\n")
    corpus = Text(tmp_path).open()
    assert corpus.statistics("train").warning is None is corpus.statistics("valid").warning
    (tmp_path / "valid.txt").write_text("a b <unk>\n")
    assert "25.0% of valid" in str(corpus.statistics("valid").warning)


def test_subwords_count_the_same_text(tmp_path):
    for split in ("train", "valid"):
        (tmp_path / f"{split}.txt").write_text("the mat, the cat\nthe mat, the cat\n")
    words = Text(tmp_path).open().statistics("valid")
    parts = Text(tmp_path, tokenizer="bpe", size=16).open().statistics("valid")
    assert (words.words, words.characters) == (parts.words, parts.characters) == (10, 36)
    assert parts.tokens > words.tokens and parts.unknown == 0 == parts.replaced
    assert parts.perplexity_per_word(1e300) == math.inf  # of a model that diverged
    # The same probability of the whole text.
    whole = 3.0**parts.tokens
    assert math.isclose(parts.perplexity_per_word(3.0) ** parts.words, whole)
    assert math.isclose(parts.perplexity_per_character(3.0) ** parts.characters, whole)


@pytest.mark.realdata
def test_published_sets_give_no_warning(real):
    corpus = Text(real("penn-treebank")).open()
    found = corpus.statistics("test")
    assert found.tokens == 82_430 and found.replaced == 0 and found.warning is None
    assert 0.04 < found.unknown / found.tokens < 0.06
