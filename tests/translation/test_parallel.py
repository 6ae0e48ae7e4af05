import gzip
import logging
import lzma
from pathlib import Path

import pytest
from tiny_pairs import SIZE, pairs, write_pairs

from define.data import Subwords
from define.translation import ParallelText


def test_sentences_come_back(folder):
    corpus = pairs(folder).open()
    source, target = corpus.lines("train")
    for lines, sentences in zip((source, target), corpus.pairs("train"), strict=True):
        rows = [row.tolist() for row in sentences]
        assert corpus.tokenizer.decode(rows) == lines
        assert all(row.index(1) == len(row) - 1 for row in rows)  # <eos>
    assert len(corpus.tokenizer) == SIZE == len(corpus.tokenizer.vocabulary)
    assert corpus.tokenizer.vocabulary.words[:3] == ("<pad>", "<eos>", "<unk>")


def test_spaces_punctuation_and_unknown_characters():
    text = ['a "dog", (two) dogs: it\'s 3-4!', "a dog dogs two two it it 3 4"]
    tokenizer = Subwords.learn(text * 2, 34, special=("<pad>", "<eos>", "<unk>"))
    assert tokenizer.decode(tokenizer.encode(["  a \t dog !", 'two "dogs": (a)', "dög"])) == [
        "a dog !",
        'two "dogs": (a)',
        "dg",
    ]
    assert tokenizer.encode(["", "  "]) == [[1], [1]]
    assert tokenizer.unknown in tokenizer.encode(["dög"])[0]
    assert tokenizer.decode([[], [1, 5, 6]]) == ["", ""]


def test_a_tokenizer_reads_as_it_was_written(folder, tmp_path):
    tokenizer = pairs(folder).open().tokenizer
    tokenizer.write(tmp_path / "tokenizer.json")
    again = Subwords.read(tmp_path / "tokenizer.json")
    assert again.fingerprint == tokenizer.fingerprint
    given = ParallelText(tmp_path / "nowhere", tokenizer=tmp_path / "tokenizer.json")
    assert given.open().tokenizer.encode(["ba de."]) == tokenizer.encode(["ba de."])
    Subwords.learn(["a b"] * 3, 6).write(tmp_path / "language.json")
    with pytest.raises(ValueError, match=r"language\.json must give '<pad>' the id 0, not None"):
        _ = ParallelText(tmp_path, tokenizer=tmp_path / "language.json").open().tokenizer
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="bad.json is not a tokenizer"):
        Subwords.read(tmp_path / "bad.json")
    with pytest.raises(FileNotFoundError, match="none.json"):
        Subwords.read(tmp_path / "none.json")


def test_more_entries_than_the_text_has_merges(folder):
    with pytest.raises(ValueError, match=r"size=5000 .* yields only \d+"):
        _ = pairs(folder, size=5000).open().tokenizer
    with pytest.raises(ValueError, match=r"size=5 entries are too few"):
        _ = pairs(folder, size=5).open().tokenizer


def test_unequal_numbers_of_lines(folder):
    with (folder / "train.de").open("a") as file:
        file.write("ka.\nla.\n")
    with pytest.raises(ValueError, match="train.en has 120 lines, but .*train.de has 122"):
        pairs(folder).open().pairs("train")
    with (folder / "test.en").open("a") as file:
        file.write("ba.\n")
    with pytest.raises(ValueError, match="test.en has 16 lines, but .*test.de has 15"):
        pairs(folder).open().lines("test")


def test_empty_and_long_pairs_are_left_out_and_counted(folder, caplog):
    for language, more in (("en", "\nba.\n" + "ba " * 30 + "\n"), ("de", "ka.\n \nka.\n")):
        for split in ("train", "test"):
            with (folder / f"{split}.{language}").open("a") as file:
                file.write(more)
    corpus = pairs(folder, max_length=20).open()
    for _ in range(2):  # said again when they come from the cache
        caplog.clear()
        with caplog.at_level(logging.WARNING, "define"):
            source, target = corpus.pairs("train")
        assert len(source) == len(target) == 120
        assert "2 pairs with an empty line and 1 with more than 20 tokens" in caplog.text
    assert len(corpus.lines("test")[0]) == 18  # all of them are translated
    with pytest.raises(ValueError, match="Nothing is left of the 123 pairs"):
        pairs(folder, max_length=2).open().pairs("train")


def test_compressed_files_and_the_cache(folder, tmp_path, monkeypatch):
    plain = [row.tolist() for row in pairs(folder).open().pairs("train")[0]]
    packed = write_pairs(tmp_path / "packed")
    for file in list(packed.iterdir()):
        opener, ending = (lzma.open, ".xz") if file.suffix == ".en" else (gzip.open, ".gz")
        with opener(f"{file}{ending}", "wb") as target:
            target.write(file.read_bytes())
        file.unlink()
    assert [row.tolist() for row in pairs(packed).open().pairs("train")[0]] == plain

    def learn(*_, **__):
        raise AssertionError("learned again")

    monkeypatch.setattr(Subwords, "learn", learn)
    monkeypatch.setattr(Subwords, "encode", learn)
    assert [row.tolist() for row in pairs(packed).open().pairs("train")[0]] == plain


@pytest.mark.parametrize("split", ["train", "test"])
def test_what_is_wrong_with_files_is_said(folder, split):
    with (folder / f"{split}.de").open("ab") as file:
        file.write(b"k\xffa\n")
    corpus = pairs(folder).open()
    with pytest.raises(ValueError, match=rf"{split}.de, line \d+: not UTF-8"):
        corpus.pairs(split)
    (folder / f"{split}.de").unlink()
    with pytest.raises(FileNotFoundError, match=f"{split}.de.xz"):
        pairs(folder).open().pairs(split)
    with pytest.raises(ValueError, match="no split 'dev'"):
        corpus.pairs("dev")
    with pytest.raises(FileNotFoundError, match="does not exist"):
        pairs(Path("/nowhere")).open().pairs("train")


def test_arguments_are_checked(folder):
    with pytest.raises(ValueError, match="source='en' must differ"):
        ParallelText(folder, target="en")
    with pytest.raises(ValueError, match="max_length=1"):
        ParallelText(folder, max_length=1)
