import re
import shutil
import sysconfig
from pathlib import Path

import pytest
import torch

from define.data import PyDocs
from define.data.pydocs import tokenize


@pytest.fixture(scope="module")
def docs(tmp_path_factory):
    return PyDocs(cache=tmp_path_factory.mktemp("pydocs"))


def test_sizes(docs):
    corpus = docs.open()
    sizes = [len(corpus.split(name)) for name in ("train", "valid", "test")]
    assert 300_000 < sum(sizes) < 800_000
    for size, share in zip(sizes, (0.9, 0.05, 0.05), strict=True):
        assert abs(size / sum(sizes) - share) < 0.01
    assert 5000 < len(corpus.vocabulary) <= 10_000
    # Rare words make <unk> a word with a probability of its own.
    assert corpus.counts[corpus.vocabulary.encode(["<unk>"])[0]] > 1000


def test_a_second_build_is_equal(tmp_path, monkeypatch):
    """Of a part of the library: the whole takes seconds each time."""
    whole, library = Path(sysconfig.get_path("stdlib")), tmp_path / "library"
    for name in ("email", "json"):
        shutil.copytree(whole / name, library / name)
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(library))
    one, two = (PyDocs(cache=tmp_path / name).open() for name in "ab")
    assert one.fingerprint == two.fingerprint
    for split in ("valid", "test"):
        assert torch.equal(one.split(split), two.split(split))


def test_the_text_is_that_of_python(docs):
    docs.open().split("train")
    [text] = docs.cache.glob("pydocs-*/train.txt")
    lines = text.read_text().splitlines()
    assert len(lines) > 10_000 and all(lines)
    content = " ".join(lines)
    assert "lambda" in content.split()
    assert not re.search(r"[A-MO-Z]|(?<!\S)\d", content)  # lower case, N for numbers


def test_a_given_vocabulary_needs_no_documentation(docs, tmp_path):
    vocabulary = docs.open().vocabulary
    vocabulary.write(tmp_path / "vocabulary.txt")
    again = PyDocs(vocabulary=tmp_path / "vocabulary.txt", cache=tmp_path / "cache").open()
    assert again.vocabulary == vocabulary
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("paragraph", "tokens"),
    [
        ("Don't use os.path_like(3.11)!", "don't use os . path_like ( N ) !"),
        (">>> x = 0x1F\n...  ------", ">>> x = N ... ---"),
        ("-----", ""),
        ("== 12 ==", ""),
    ],
)
def test_tokenize(paragraph, tokens):
    assert tokenize(paragraph) == tokens
