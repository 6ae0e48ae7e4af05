import gzip
import lzma
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from define.data import Corpus, Text, Vocabulary, ids


def test_open(folder):
    corpus = Text(folder).open()
    assert isinstance(corpus, Corpus)
    assert corpus.vocabulary.words == ("<eos>", "the", "sat", "<unk>", "cat", "mat", "on")
    train = corpus.split("train")
    assert train.dtype == torch.int32 and train.dim() == 1
    words = "the cat sat <eos> <eos> the <unk> sat on the mat <eos>"
    assert corpus.vocabulary.decode(train.tolist()) == words.split()
    assert corpus.counts.tolist() == [3, 3, 2, 1, 1, 1, 1] and corpus.counts.dtype == torch.int64
    valid = corpus.split("valid").tolist()
    assert corpus.vocabulary.decode(valid) == ["the", "<unk>", "sat", "<eos>"]
    # A last line without a line end is a line.
    assert corpus.vocabulary.decode(corpus.split("test").tolist()) == ["<unk>", "cat", "<eos>"]


def test_compressed_files_have_the_same_ids(folder, tmp_path):
    content = (folder / "train.txt").read_bytes()
    for name, module in (("train.txt.xz", lzma), ("train.txt.gz", gzip)):
        other = tmp_path / name
        other.mkdir()
        with module.open(other / name, "wb") as file:
            file.write(content)
        assert Text(other).open().fingerprint == Text(folder).open().fingerprint


def test_rare_words_become_unknown_where_the_text_has_no_unknown(folder):
    (folder / "train.txt").write_text("a b a\nb c\n")
    corpus = Text(folder).open()
    assert corpus.vocabulary.words == ("<eos>", "a", "b", "<unk>")
    assert corpus.counts.tolist() == [2, 2, 2, 1]
    assert "c" in Text(folder, min_count=1).open().vocabulary
    assert len(Text(folder, max_size=3).open().vocabulary) == 3


def test_given_vocabulary_needs_no_text(folder, tmp_path):
    corpus = Text(folder).open()
    corpus.vocabulary.write(tmp_path / "vocabulary.txt")
    given = replace(Text(folder), vocabulary=tmp_path / "vocabulary.txt")
    assert given.open().fingerprint == corpus.fingerprint
    assert torch.equal(given.open().split("train"), corpus.split("train"))
    missing = replace(given, path=tmp_path / "missing").open()
    assert missing.vocabulary == corpus.vocabulary
    with pytest.raises(FileNotFoundError, match="missing does not exist"):
        missing.split("train")


def test_second_start_reads_no_text(folder, monkeypatch):
    first = Text(folder).open()
    parts = [first.split(name).tolist() for name in ("train", "valid", "test")]

    def fail(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(ids, "read_blocks", fail)
    second = Text(folder).open()
    assert [second.split(name).tolist() for name in ("train", "valid", "test")] == parts
    assert second.vocabulary == first.vocabulary


def test_a_changed_source_is_read_again(folder):
    before = Text(folder).open()
    fingerprint = before.fingerprint
    mapped = before.split("train")
    old = mapped.clone()
    (folder / "train.txt").write_text("other words other words\n")
    after = Text(folder).open()
    assert "other" in after.vocabulary and after.fingerprint != fingerprint
    assert before.fingerprint == fingerprint and "other" not in before.vocabulary
    assert old.tolist() == mapped.tolist()  # what was opened stays what it was


def test_a_cut_off_file_in_the_cache_is_built_again(folder, cache):
    first = Text(folder).open().split("train").tolist()
    [path] = cache.glob("train-*/ids.int32")
    os.truncate(path, 8)
    assert Text(folder).open().split("train").tolist() == first


def test_writing_into_the_ids_leaves_the_file(folder):
    ids = Text(folder).open().split("train")
    first = ids.tolist()
    ids.zero_()
    assert Text(folder).open().split("train").tolist() == first


def test_cache_folder(folder, tmp_path, monkeypatch):
    Text(folder, cache=tmp_path / "given").open().split("train")
    assert [*(tmp_path / "given").glob("train-*/source.json")]
    monkeypatch.delenv("DEFINE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    Text(folder).open().split("train")
    assert [*(tmp_path / "xdg" / "define").glob("train-*/source.json")]


@pytest.fixture
def blocks(monkeypatch):
    """Tiny blocks."""
    read = ids.read_blocks
    monkeypatch.setattr(ids, "read_blocks", lambda path, title: read(path, title, 1000))


@pytest.fixture
def large(folder):
    random = np.random.default_rng(0)
    lines = (" ".join(f"w{n}" for n in random.zipf(1.5, 30) % 500) for _ in range(500))
    (folder / "train.txt").write_text("<unk>\n" + "\n".join(lines) + "\n")
    return folder


def test_many_blocks_give_the_same(large, blocks, tmp_path):
    one = Text(large).open()
    words = (large / "train.txt").read_text().replace("\n", " <eos> ").split()
    assert one.vocabulary.decode(one.split("train").tolist()) == words
    one.vocabulary.write(tmp_path / "vocabulary.txt")
    given = Text(large, vocabulary=tmp_path / "vocabulary.txt").open()
    assert torch.equal(given.split("train"), one.split("train"))


def test_a_fault_in_a_later_block_is_named_with_its_line(large, blocks):
    with (large / "train.txt").open("ab") as file:
        file.write(b"good\nb\xe4d\n")
    with pytest.raises(ValueError, match="train.txt, line 503: not UTF-8"):
        Text(large).open().split("train")


TEXTS = st.text(st.sampled_from("ab \n\t\ré日"), min_size=1).filter(lambda text: text.split())


@given(content=TEXTS, size=st.integers(1, 9))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_where_blocks_are_cut_does_not_matter(content, size, tmp_path, monkeypatch):
    path = tmp_path / "text.txt"
    path.write_bytes(content.encode())
    read = ids.read_blocks
    with monkeypatch.context() as patch:
        patch.setattr(ids, "read_blocks", lambda path, title: read(path, title, size))
        vocabulary, _ = ids.learn_word_ids([path], Vocabulary.from_counts, tmp_path / "ids")
    got = vocabulary.decode(np.fromfile(tmp_path / "ids", np.int32).tolist())
    end = "" if content.endswith("\n") else "\n"
    assert got == (content + end).replace("\n", " <eos> ").split()


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_text(folder, content, cache):
    for split in ("train", "valid"):
        (folder / f"{split}.txt").write_bytes(content)
        with pytest.raises(ValueError, match=f"{split}.txt is empty"):
            Text(folder).open().split(split)
        (folder / f"{split}.txt").write_text("a\n")


def test_not_utf8(folder, cache):
    (folder / "train.txt").write_bytes(b"fine\nf\xffine\n")
    with pytest.raises(ValueError, match="train.txt, line 2: not UTF-8: .*0xff"):
        _ = Text(folder).open().vocabulary
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_no_stand_in(folder, tmp_path, cache):
    (tmp_path / "words.txt").write_text("<eos>\nthe\ncat\nsat\n")
    corpus = Text(folder, vocabulary=tmp_path / "words.txt").open()
    with pytest.raises(ValueError, match="train.txt, line 3: '<unk>' is not in the vocabulary"):
        corpus.split("train")
    with pytest.raises(ValueError, match="valid.txt, line 1: 'dog' .* '<unk>'"):
        corpus.split("valid")
    assert not [path for path in cache.iterdir() if path.is_dir()]
    (tmp_path / "words.txt").write_text("the\n<unk>\n")
    with pytest.raises(ValueError, match="has no '<eos>'"):
        Text(folder, vocabulary=tmp_path / "words.txt").open().split("valid")


def test_missing_split(folder):
    (folder / "test.txt").unlink()
    with pytest.raises(FileNotFoundError, match="text has no split 'test': .*test.txt.xz"):
        Text(folder).open().split("test")
    with pytest.raises(ValueError, match="no split 'dev'; the splits are train, valid, test"):
        Text(folder).open().split("dev")
    with pytest.raises(FileNotFoundError, match="train.txt is a file; a folder is needed"):
        Text(folder / "train.txt").open().split("train")


@pytest.mark.parametrize("name", ["train.txt.xz", "train.txt.gz"])
def test_damaged_archive(tmp_path, name):
    module = lzma if name.endswith("xz") else gzip
    content = module.compress(b"a b c\n" * 1000)
    (tmp_path / name).write_bytes(content[:-20])
    with pytest.raises(ValueError, match=f"{name} is a damaged"):
        _ = Text(tmp_path).open().vocabulary


SCRIPT = """
import sys, time
from pathlib import Path
from define.data import Text, ids
if "slow" in sys.argv:
    read = ids.read_blocks
    def slow(path, title):
        for number, block in enumerate(read(path, title, 1000)):
            if number == 20:
                print("half-way", flush=True)
                time.sleep(60)
            yield block
    ids.read_blocks = slow
corpus = Text(Path(sys.argv[1])).open()
print(corpus.fingerprint, len(corpus.split("train")))
"""


def start(folder, *arguments):
    command = [sys.executable, "-c", SCRIPT, str(folder), *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_killed_run_leaves_nothing_that_counts(large, cache):
    with start(large, "slow") as process:
        assert process.stdout.readline() == "half-way\n"
        os.kill(process.pid, signal.SIGKILL)
    assert [path for path in cache.iterdir() if path.suffix == ".tmp"]
    corpus = Text(large).open()
    words = (large / "train.txt").read_text().replace("\n", " <eos> ").split()
    assert corpus.vocabulary.decode(corpus.split("train").tolist()) == words
    assert not [path for path in cache.iterdir() if path.suffix == ".tmp"]


def test_two_processes_at_once(large, cache):
    with start(large) as one, start(large) as two:
        outputs = {process.communicate()[0] for process in (one, two)}
        assert one.returncode == two.returncode == 0
    corpus = Text(large).open()
    assert outputs == {f"{corpus.fingerprint} {len(corpus.split('train'))}\n"}
    assert not [path for path in cache.iterdir() if path.suffix == ".tmp"]


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "words", "tokens"),
    [
        ("penn-treebank", 10_000, [929_589, 73_760, 82_430]),
        ("wikitext-2", 33_278, [2_088_628, 217_646, 245_569]),
    ],
)
def test_published_counts(real, name, words, tokens):
    corpus = Text(real(name)).open()
    assert len(corpus.vocabulary) == words
    assert [len(corpus.split(split)) for split in ("train", "valid", "test")] == tokens
    begin = time.perf_counter()
    assert int(Text(real(name)).open().counts.sum()) == tokens[0]
    assert time.perf_counter() - begin < 5  # no reading of the text: hundredths of a second


@pytest.mark.realdata
def test_wikitext_103_with_its_dictionary(real):
    folder = real("wikitext-103")
    corpus = Text(folder, vocabulary=folder / "dict.txt.xz").open()
    assert [len(corpus.split(split)) for split in ("valid", "test")] == [217_646, 245_569]
