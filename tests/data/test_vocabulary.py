import lzma

import pytest
from hypothesis import given
from hypothesis import strategies as st

from define.data import END_OF_LINE, UNKNOWN, Vocabulary

WORDS = st.lists(
    st.text(
        st.characters(exclude_characters=" \t\n\r\x0b\x0c", exclude_categories=["Cs"]), min_size=1
    ),
    unique=True,
    min_size=1,
)


@given(WORDS)
def test_decode_undoes_encode(words):
    vocabulary = Vocabulary(words)
    assert vocabulary.encode(words) == list(range(len(words)))
    assert vocabulary.decode(vocabulary.encode(words)) == words


@given(words=WORDS)
def test_read_undoes_write(words, tmp_path_factory):
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.txt"
    vocabulary = Vocabulary(words)
    vocabulary.write(path)
    again = Vocabulary.read(path)
    assert again == vocabulary and hash(again) == hash(vocabulary)
    assert again.fingerprint == vocabulary.fingerprint
    assert list(path.parent.iterdir()) == [path]


def test_unknown_words():
    vocabulary = Vocabulary(["a", UNKNOWN])
    assert vocabulary.encode(["a", "b"]) == [0, 1]
    assert "a" in vocabulary and "b" not in vocabulary and len(vocabulary) == 2
    with pytest.raises(ValueError, match="'b' .* neither is '<unk>'.*: add '<unk>'"):
        Vocabulary(["a"]).encode(["b"])
    with pytest.raises(IndexError, match="id -1 .* 2 words"):
        vocabulary.decode([-1])


def test_fingerprint_depends_on_the_order():
    assert Vocabulary(["a", "b"]).fingerprint != Vocabulary(["b", "a"]).fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["a", "b", "a"], "'a' has two ids, 0 and 2"),
        (["a", ""], "Word 1, '', is empty"),
        (["a b"], "Word 0, 'a b', .* space"),
    ],
)
def test_wrong_words(words, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words)


def test_from_counts():
    counts = {"b": 5, "a": 5, "c": 9, "d": 1, END_OF_LINE: 1, "e": 2}
    assert Vocabulary.from_counts(counts).words == ("c", "a", "b", "e", END_OF_LINE, "d", UNKNOWN)
    # d is left out: <unk> stands for its one occurrence; <eos> stays.
    chosen = Vocabulary.from_counts(counts, min_count=2)
    assert chosen.words == ("c", "a", "b", "e", END_OF_LINE, UNKNOWN)
    # b, d, e are left out: <unk> stands for 8 occurrences.
    chosen = Vocabulary.from_counts(counts, max_size=4)
    assert chosen.words == ("c", UNKNOWN, "a", END_OF_LINE)
    assert Vocabulary.from_counts({"a": 1, UNKNOWN: 3}).words == (UNKNOWN, "a")
    with pytest.raises(ValueError, match="max_size=1 must be at least 2"):
        Vocabulary.from_counts(counts, max_size=1)
    with pytest.raises(ValueError, match="min_count=0"):
        Vocabulary.from_counts(counts, min_count=0)


def test_read_fairseq_dictionary(tmp_path):
    path = tmp_path / "dict.txt.xz"
    with lzma.open(path, "wt", encoding="utf-8") as file:
        file.write("the 10\na\N{NO-BREAK SPACE}b 3\nmadeupword0000 0\nmadeupword0001 0\n")
    assert Vocabulary.read(path).words == (UNKNOWN, END_OF_LINE, "the", "a\N{NO-BREAK SPACE}b")


def test_a_fairseq_dictionary_with_words_of_its_own(tmp_path):
    path = tmp_path / "dict.txt"
    path.write_text("a 5\nb 4\n# 3\n<unk> 2 #fairseq:overwrite\na 1 #fairseq:overwrite\n")
    assert Vocabulary.read(path).words == ("<eos>", "b", "#", "<unk>", "a")
    path.write_text("a 5\nb 4\na 1\n")
    with pytest.raises(ValueError, match="'a' has two ids"):
        Vocabulary.read(path)


def test_read_errors(tmp_path):
    path = tmp_path / "words.txt"
    with pytest.raises(FileNotFoundError, match="words.txt"):
        Vocabulary.read(path)
    path.write_text("")
    with pytest.raises(ValueError, match="words.txt is empty"):
        Vocabulary.read(path)
    path.write_text("a\nb\na\n")
    with pytest.raises(ValueError, match="words.txt: 'a' has two ids"):
        Vocabulary.read(path)
    path.write_bytes(b"a\nb\n\xff\n")
    with pytest.raises(ValueError, match="words.txt, line 3: not UTF-8"):
        Vocabulary.read(path)


@pytest.mark.realdata
def test_wikitext_103(real):
    vocabulary = Vocabulary.read(real("wikitext-103") / "dict.txt.xz")
    assert len(vocabulary) == 267_735
    assert vocabulary.words[:3] == (UNKNOWN, END_OF_LINE, "the")
