"""Whatever is in a file, a reader gives its content or says what is wrong and in which file.

`DEFINE_FUZZ` is the number of inputs of each reader; `make fuzz` sets it to 10,000.
"""

import gzip
import io
import json
import lzma
import os
import struct

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save
from torch import nn

from define.compression.vectors import read_vectors, read_weights
from define.data import Subwords, Text, Vocabulary
from define.files import write_bytes
from define.measures import RunSummary
from define.measures.table_file import read_table
from define.readers import read_json, read_text, read_yaml
from define.recipes.settings import config_text, open_run, recipe_parser
from define.training import Run

FUZZ = settings(
    max_examples=int(os.environ.get("DEFINE_FUZZ", 100)),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    deadline=None,
)


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def claiming(shape):
    """A `.npy` file whose header claims a shape, without the numbers."""
    return npy(np.zeros((3, 2))).replace(b"(3, 2)", f"{shape}".encode())[:-48]


SUBWORDS = Subwords.learn(["the cat, the mat"] * 2, 14)._json.encode()
SUMMARY = {
    "name": "a",
    "embedding": "DeFINE",
    "unit": 1,
    "context": 2,
    "input_output": 3,
    "tokens_per_second": 1.5,
    "peak_memory": None,
    "valid_perplexity": 2.0,
    "test_perplexity": 3.0,
    "seed": 1,
    "tokens": 7,
    "history": [[1, 2.0]],
}
WEIGHTS = save({"weight": torch.ones(3, 2), "bias": torch.zeros(3)})


def read_split(path):
    return Text(path.parent, cache=path.parent / "cache").open().split("train")


def read_run_weights(path):
    Run(path.parent).load_weights(nn.Linear(2, 3))


def read_config(path):
    (path.parent / "vocabulary.txt").write_text("<unk>\n<eos>\na\n")
    (path.parent / "model.safetensors").touch()
    open_run(path.parent)


OPTIONS = ["--data.path", "/nowhere", "--embedding", "DeFINE"]
CONFIG = config_text("text", recipe_parser("text").parse_args(OPTIONS)).encode()

READERS = {
    "train.txt": (read_split, b"the cat \r\n\n<unk> sat the <eos> \xc3\xa9\n"),
    "train.txt.gz": (read_split, gzip.compress(b"the cat\n") * 2),
    "train.txt.xz": (read_split, lzma.compress(b"the cat\n") + bytes(4) + lzma.compress(b"sat\n")),
    "words.txt": (Vocabulary.read, b"\xef\xbb\xbfthe\ncat\r\n<eos>\n<unk>\n"),
    "dict.txt": (Vocabulary.read, b"the 5\ncat 3\nmadeupword0001 0\nthe 1 #fairseq:overwrite\n"),
    "dict.txt.xz": (Vocabulary.read, lzma.compress(b"the 5\ncat 3\n")),
    "tokenizer.json": (Subwords.read, SUBWORDS),
    "table.npy": (lambda path: read_table(path, 3), npy(np.ones((3, 2), np.float32))),
    "table.safetensors": (lambda path: read_table(path, 3), WEIGHTS),
    "model.safetensors": (read_run_weights, WEIGHTS),
    "vectors.txt": (read_vectors, b"2 3\nthe 1 2 3\nof the 4 5e1 6\n"),
    "vectors.txt.gz": (read_vectors, gzip.compress(b"the 1 2 3\ncat 4 5 6\n")),
    "vectors.npy": (read_vectors, npy(np.ones((3, 2), np.float16))),
    "vectors.safetensors": (read_vectors, WEIGHTS),
    "weights.txt": (read_weights, b"1.5\n2e3\n0\n"),
    "summary.json": (RunSummary.from_json, json.dumps(SUMMARY).encode()),
    "any.json": (read_json, b'{"a": [1, 2.5, null, true, "\\u00e9"]}'),
    "any.yaml": (read_yaml, b"a: &x [1, 2.5, null, 2020-01-01]\nb: *x\nc: {d: e}\n"),
    "config.yaml": (read_config, CONFIG),
}


def check(path, name, content):
    """Reads a file; whatever comes, no other error than the documented ones."""
    read, _ = READERS[name]
    file = path / name
    file.write_bytes(content)
    try:
        read(file)
    except (ValueError, OSError) as error:
        assert name in str(error) or str(path) in str(error), repr(error)
        assert type(error) in (ValueError, FileNotFoundError), repr(error)


@st.composite
def damaged(draw, content):
    """Content with some bytes changed, left out, put in, repeated or cut off."""
    data = bytearray(content)
    pieces = st.binary(max_size=8) | st.sampled_from(
        [
            b"\0",
            b"\n",
            b"\r",
            b"\xff",
            b"\xef\xbb\xbf",
            b" ",
            b"[" * 3000,
            b"9" * 30,
            b"-1",
            b"null",
        ]
    )
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(data)))
        end = draw(st.integers(place, min(len(data), place + 12)))
        match draw(st.sampled_from(["flip", "replace", "repeat", "cut"])):
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "repeat":
                data[place:place] = data[place:end]
            case "cut" if draw(st.booleans()):
                del data[place:]
            case _:
                data[place:end] = draw(pieces)
    return bytes(data)


@pytest.mark.parametrize("name", READERS)
@FUZZ
@given(data=st.data())
def test_damaged_files(name, data, tmp_path):
    check(tmp_path, name, data.draw(damaged(READERS[name][1]) | st.binary(max_size=80)))


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name, tmp_path):
    read, content = READERS[name]
    (tmp_path / name).write_bytes(content)
    if name == "config.yaml":  # it is read; the weights are none
        with pytest.raises(ValueError, match=r"model\.safetensors is damaged"):
            read(tmp_path / name)
    else:
        read(tmp_path / name)


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"
ODD = {
    "any.json": [b"[" * 100_000, b'{"a":' * 100_000, b"", b"\xff", b"9" * 5000],
    "any.yaml": [
        b"[" * 3000,
        b"- " * 3000,
        b"a: 2020-99-99",
        b"? [a]\n: b",
        b"!!python/object:a.B",
        b"a: &a [*a]",
        b"a: &a {b: *a}",
        b"a0: &a0 [x, x, x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b"*a%d, " % (i - 1) * 9) for i in range(1, 30)),
        b"a0: &a0 {x: 1}\n"
        + b"".join(
            b"a%d: &a%d {<<: [%s]}\n" % (i, i, b"*a%d, " % (i - 1) * 9) for i in range(1, 30)
        ),
    ],
    "config.yaml": [
        CONFIG.replace(b"depth: 3", b"depth: -3"),
        CONFIG.replace(b"approximate: none", b"approximate: oone"),
        b"",
        b"# recipe: text\n",
        b"# recipe: text\nseed: [" * 999,
        b"# recipe: no\n",
    ],
    "table.npy": [
        *(b"", b"\x93NUMPY", npy(np.ones((3, 2), object)), npy(np.ones((3, 2), int)), LFS),
        *(npy(np.array(["a", "b", "c"])), npy(np.ones(3)), npy(np.ones((3, 0)))),
        *(claiming((10**9, 10**6)), claiming((3, 10**30)), claiming((-3, 2)), b"PK\x03\x04"),
    ],
    "table.safetensors": [b"", LFS, struct.pack("<Q", 2**63), struct.pack("<Q", 10) + b"{" * 10],
    "tokenizer.json": [b"", b"null", b"{}", b"[" * 100_000, b'{"model": null}', LFS],
    "words.txt": [b"", b" the\n", b"a b\n", b"the\x0b\n", b"\n", b"\n\n", b"\xff\n", b"a\na\n"],
    "vectors.txt": [b"", b"\n", b"the\n", "² ²\n".encode(), b"2 3\nthe 1 2\n", b"a 1\nb 1 2 x\n"],
    "vectors.npy": [b"", npy(np.ones((3, 2), bool)), npy(np.ones((0, 2))), claiming((9**9, 9**9))],
    "weights.txt": [b"one\n", b"1,5\n", b"\xff\n", b"1 2\n"],
    "summary.json": [
        *(b"null", b"[]", b"{}", b'{"name": []}', b"\xff"),
        json.dumps({**SUMMARY, "history": [[10**400, 2.0]]}).encode(),
    ],
    "train.txt": [b"", b" \n", b"\xff", b"a\n\xc3\n", "a\n".encode("utf-16")],
    "train.txt.xz": [b"", LFS, lzma.compress(b"\xff")],
}


@pytest.mark.parametrize(("name", "content"), [(name, x) for name in ODD for x in ODD[name]])
def test_what_is_no_such_file(name, content, tmp_path):
    read, _ = READERS[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises((ValueError, FileNotFoundError)) as error:
        read(tmp_path / name)
    assert name in str(error.value), error.value
    if content is LFS and not name.startswith("train"):
        assert "git lfs pull" in str(error.value) or name == "tokenizer.json"


def test_a_device_is_no_file(tmp_path):
    (tmp_path / "a").symlink_to(os.devnull)
    for read in (read_text, read_json, read_yaml):
        with pytest.raises(FileNotFoundError, match="a is no file"):
            read(tmp_path / "a")


def test_half_a_character_can_be_written_again(tmp_path):
    (tmp_path / "summary.json").write_text(json.dumps({**SUMMARY, "name": "a\ud800\x1b"}))
    assert RunSummary.from_json(tmp_path / "summary.json").name == r"a\ud800\x1b"


def test_numbers_in_the_other_order_of_bytes(tmp_path):
    table = np.arange(6.0).reshape(3, 2)
    (tmp_path / "table.npy").write_bytes(npy(table.astype(">f8")))
    assert read_table(tmp_path / "table.npy", 3).tolist() == table.tolist()


def test_no_file_executes_anything(tmp_path):
    planted = tmp_path / "planted"
    code = f"cos\nsystem\n(S'touch {planted}'\ntR.".encode()
    for name in READERS:
        check(tmp_path, name, code)
    for text in (
        f"!!python/object/apply:os.system ['touch {planted}']",
        f"# recipe: text\nseed: !!python/object/apply:os.system ['touch {planted}']",
    ):
        check(tmp_path, "any.yaml", text.encode())
        check(tmp_path, "config.yaml", text.encode())
    assert not planted.exists()


def test_every_reader_of_text_knows_byte_order_marks(tmp_path):
    for name in READERS:
        if name.endswith((".txt", ".json", ".yaml")):
            read, content = READERS[name]
            content = content.removeprefix(b"\xef\xbb\xbf")
            for number, mark in enumerate((b"", b"\xef\xbb\xbf")):
                folder = tmp_path / f"{name}-{number}"
                folder.mkdir()
                write_bytes(folder / name, mark + content)
                if name != "config.yaml":
                    read(folder / name)
