"""Texts as they come: archives of several streams, byte-order marks, several files, odd words."""

import gzip
import lzma
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from define.data import Text, Vocabulary
from define.data.files import read_blocks
from define.readers import read_lines

MARK = b"\xef\xbb\xbf"


def words(text, split="train"):
    corpus = text.open()
    return corpus.vocabulary.decode(corpus.split(split).tolist())


def read(path):
    return b"".join(read_blocks(path, "reading")), [*read_lines(path)]


@given(
    parts=st.lists(st.binary(max_size=5).map(lambda x: b"a%bb\n" % x.hex().encode()), min_size=1),
    zeros=st.lists(st.integers(0, 3).map(lambda n: bytes(4 * n)), min_size=9, max_size=9),
    size=st.sampled_from([1, 7, 1 << 20]),
)
@settings(max_examples=50)
def test_all_streams_of_an_archive_and_the_zeros_between_them(parts, zeros, size, tmp_path_factory):
    path = tmp_path_factory.mktemp("xz") / "text.xz"
    path.write_bytes(b"".join(lzma.compress(part) + zeros[i % 9] for i, part in enumerate(parts)))
    assert b"".join(read_blocks(path, "reading", size)) == b"".join(parts)
    assert [*read_lines(path)] == b"".join(parts).decode().split("\n")[:-1]


def test_an_old_lzma_file_is_read(tmp_path):
    path = tmp_path / "text.xz"
    path.write_bytes(lzma.compress(b"a b\n", lzma.FORMAT_ALONE))
    assert read(path) == (b"a b\n", ["a b"])


GOOD = lzma.compress(b"a b\n")


@pytest.mark.parametrize(
    "content",
    [
        GOOD + bytes([GOOD[0] ^ 1]) + GOOD[1:],  # the second header
        GOOD + bytes(4) + GOOD[:3] + b"?" + GOOD[4:],
        GOOD + bytes(3) + GOOD,  # zeros come in fours
        GOOD + bytes(5),
        GOOD + GOOD[:-1],
        GOOD + b"text behind",
        bytes(4) + GOOD,
        b"",
        b"\x5d" + struct.pack("<I", 0xFFFFFFFF) + b"\xff" * 8 + bytes(99),  # asks for 4 GB
    ],
)
def test_damaged_archives_are_named(content, tmp_path):
    path = tmp_path / "text.txt.xz"
    path.write_bytes(content)
    for lines in (read_blocks(path, "reading"), read_lines(path)):
        with pytest.raises(ValueError, match=r"text\.txt\.xz is a damaged or incomplete archive"):
            list(lines)


@pytest.mark.parametrize("name", ["train.txt", "train.txt.gz", "train.txt.xz"])
def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path, name):
    pack = {"txt": bytes, ".gz": gzip.compress, ".xz": lzma.compress}[name[-3:]]
    (tmp_path / name).write_bytes(pack(MARK + b"a b\r\n" + MARK + b"b a b\r\n"))
    assert words(Text(tmp_path, min_count=1)) == "a b <eos> \ufeffb a b <eos>".split()
    vocabulary = tmp_path / name.replace("train", "words")
    vocabulary.write_bytes(pack(MARK + b"a\r\nb\r\n<eos>\r\n<unk>\r\n"))
    assert Vocabulary.read(vocabulary).words == ("a", "b", "<eos>", "<unk>")
    vocabulary.write_bytes(pack(MARK + b"a 5\r\nb 3\r\n"))
    assert Vocabulary.read(vocabulary).words == ("<unk>", "<eos>", "a", "b")


def test_a_mark_alone_is_an_empty_text(tmp_path):
    (tmp_path / "train.txt").write_bytes(MARK)
    with pytest.raises(ValueError, match=r"train\.txt is empty"):
        Text(tmp_path).open().split("train")
    (tmp_path / "words").write_bytes(MARK)
    with pytest.raises(ValueError, match="words is empty"):
        Vocabulary.read(tmp_path / "words")


@pytest.mark.parametrize("pattern", ["train-{}.txt", "train/{}.txt"])
def test_a_split_of_several_files(tmp_path, pattern):
    (tmp_path / "train").mkdir()
    for name, content in (("b", b"c d"), ("a", MARK + b"a b\n"), ("c", b"e\n")):
        (tmp_path / pattern.format(name)).write_bytes(content)
    (tmp_path / "train" / "README.md").write_text("no text")
    packed = tmp_path / pattern.format("c")
    (tmp_path / f"{pattern.format('c')}.xz").write_bytes(lzma.compress(packed.read_bytes()))
    packed.unlink()
    text = Text(tmp_path, min_count=1)
    assert words(text) == "a b <eos> c d <eos> e <eos>".split()
    (tmp_path / pattern.format("b")).write_bytes(b"fine\nf\xffine\n")
    with pytest.raises(ValueError, match=r"b\.txt, line 2: not UTF-8"):
        words(text)


def test_a_limit_of_tokens(tmp_path):
    (tmp_path / "train-1.txt").write_text("a b\n\nc a b\n")
    (tmp_path / "train-2.txt").write_text("d d\n")
    (tmp_path / "valid.txt").write_text("d d\n")
    whole = "a b <eos> <eos> c a b <eos> d d <eos>".split()
    for tokens in range(1, 13):
        text = Text(tmp_path, min_count=1, tokens=tokens)
        assert words(text) == whole[:tokens]
        assert set(text.open().vocabulary.words) == {*whole[:tokens], "<eos>", "<unk>"}
        assert len(text.open().split("valid")) == 3
        (tmp_path / "words").write_text("\n".join([*dict.fromkeys(whole), "<unk>"]))
        assert words(Text(tmp_path, tmp_path / "words", tokens=tokens)) == whole[:tokens]
    with pytest.raises(ValueError, match="tokens=0 must be at least 1"):
        Text(tmp_path, tokens=0).open()


def test_a_line_end_written_in_the_text_is_a_word_like_others(tmp_path):
    (tmp_path / "train.txt").write_text("a <eos> a <unk>\n<eos>\n")
    (tmp_path / "valid.txt").write_text("a <eos>x <eos>\n")
    assert words(Text(tmp_path)) == "a <unk> a <unk> <eos> <unk> <eos>".split()
    assert words(Text(tmp_path), "valid") == "a <unk> <unk> <eos>".split()
    (tmp_path / "words").write_text("a\n<eos>\n")
    (tmp_path / "train.txt").write_text("a\na <eos> a\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 2: '<eos>' is not in the vocabulary"):
        words(Text(tmp_path, tmp_path / "words"))


def test_an_unknown_word_written_in_the_text_is_that_of_the_vocabulary(tmp_path):
    (tmp_path / "train.txt").write_text("a <unk> b\n")
    assert words(Text(tmp_path)) == "a <unk> b <eos>".split()


def test_words_of_all_scripts(tmp_path):
    line = "a\u00a0b \u2028 שלום\u200f 👩\u200d👩\u200d👧 e\u0301 \u1680"
    (tmp_path / "train.txt").write_text(f"{line}\n\n{line}\n", "utf-8")
    found = words(Text(tmp_path))
    assert found == [*line.split(" "), "<eos>", "<eos>", *line.split(" "), "<eos>"]
    corpus = Text(tmp_path).open()
    ids = corpus.split("train").tolist()
    assert corpus.encode(f"{line}\n\n {line} \n") == ids  # a prompt is read as training reads
    assert corpus.decode(ids) == f"{line}\n\n{line}\n"
    assert corpus.encode("<eos>") == corpus.vocabulary.encode(["<unk>"]) != [corpus.end]


def test_files_that_are_no_splits_are_divided(tmp_path, caplog):
    """Three novels as they come: the end of each is held out."""
    for name in "cab":
        lines = [f"{name}{n} \u201cword\u201d" for n in range(40)]
        (tmp_path / f"{name}.txt").write_bytes(MARK + "\r\n".join(lines).encode())
    (tmp_path / "notes.md").write_text("no text")
    text = Text(tmp_path, min_count=1)
    parts = {split: text.files(split)[0].read_text("utf-8") for split in ("train", "valid", "test")}
    first = {
        split: [line.split()[0] for line in part.split("\n")[:-1]] for split, part in parts.items()
    }
    assert first["valid"] == [f"{name}{n}" for name in "abc" for n in (36, 37)]
    assert first["test"] == [f"{name}{n}" for name in "abc" for n in (38, 39)]
    assert first["train"] == [f"{name}{n}" for name in "abc" for n in range(36)]
    assert "\r" not in parts["train"] and "\ufeff" not in parts["train"]
    (tmp_path / "valid.txt").write_text("a b\n")  # a split is missing: nothing is guessed
    with pytest.raises(FileNotFoundError, match="no split 'train'"):
        text.files("train")
    for file in tmp_path.glob("*.txt"):
        file.write_text("a b\n" * 19)
    (tmp_path / "valid.txt").unlink()
    with pytest.raises(ValueError, match="too short to be divided.* 20 lines"):
        text.files("train")


@pytest.mark.parametrize(
    "names",
    [("ptb.train", "ptb.valid", "ptb.test"), ("Train", "Test"), ("wiki_validation", "wiki_test")],
)
def test_splits_of_other_names_are_not_mixed(tmp_path, names):
    for name in names:
        (tmp_path / f"{name}.txt").write_text("a b\n" * 40)
    with pytest.raises(FileNotFoundError, match=f"no split 'train': .* there are .*{names[0]}.txt"):
        Text(tmp_path).files("train")


def test_hidden_files_are_no_text(tmp_path):
    for name in ("The last train", "A test", "._A test"):  # macOS puts such beside files
        (tmp_path / f"{name}.txt").write_text(f"{name}\n" * 40)
    with pytest.raises(FileNotFoundError, match="there are A test.txt, The last train.txt"):
        Text(tmp_path).files("train")
    (tmp_path / "A test.txt").rename(tmp_path / "Contestants of Brest.txt")
    assert "._A" not in Text(tmp_path).files("train")[0].read_text()
    (tmp_path / "train").mkdir()
    for name in ("a", "._a"):
        (tmp_path / "train" / f"{name}.txt").write_text("a\n")
    assert [file.name for file in Text(tmp_path).files("train")] == ["a.txt"]
