import io
import os

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from define.__main__ import main
from define.compression import load_table, read_vectors, stored_bytes


def table(v=300, m=8):
    return torch.randn(v, m, generator=torch.Generator().manual_seed(0))


def write(path, rows):
    if path.suffix == ".npy":
        np.save(path, rows.numpy())
    elif path.suffix == ".safetensors":
        save_file({"few": rows[:3].clone(), "table": rows, "bias": rows[0].clone()}, path)
    elif path.suffix == ".bin":
        lines = (f"w{i} ".encode() + row.tobytes() + b"\n" for i, row in enumerate(rows.numpy()))
        path.write_bytes(f"{len(rows)} {rows.shape[1]}\n".encode() + b"".join(lines))
    else:
        first = f"{len(rows)} {rows.shape[1]}\n" if path.suffix == ".w2v" else ""
        lines = (f"w {i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows.tolist()))
        path.write_text(first + "".join(lines))


@pytest.mark.parametrize("kind", ["<f2", ">f4", "<f8", "F"])
def test_arrays_of_other_machines_are_read(tmp_path, kind):
    rows = table().half().numpy()
    rows = np.asfortranarray(rows) if kind == "F" else rows.astype(kind)
    np.save(tmp_path / "t.npy", rows)
    assert torch.equal(read_vectors(tmp_path / "t.npy")[0], table().half().float())


@pytest.mark.parametrize(("v", "m", "share"), [(1, 16, 0.5), (2, 16, 0.9), (200, 1, 1.0)])
def test_tables_of_hardly_a_row_or_column_are_compressed(tmp_path, v, m, share):
    np.save(tmp_path / "t.npy", table(v, m).numpy())
    output = tmp_path / "small"
    main(["compress", str(tmp_path / "t.npy"), "--output", str(output), "--share", str(share)])
    assert load_table(output)[0].weight.shape == (v, m)


@pytest.mark.parametrize("name", ["t.npy", "t.safetensors", "t.w2v", "t.bin"])
def test_tables_of_other_programs_are_read(tmp_path, name):
    rows = table()
    write(tmp_path / name, rows)
    read, words = read_vectors(tmp_path / name)
    torch.testing.assert_close(read, rows)
    assert (words is None) == (name in ("t.npy", "t.safetensors"))
    assert words is None or "".join(words[299].split()) == "w299"


HEADER = b"{'descr': '<V2', 'fortran_order': False, 'shape': (1, 2)}"
BFLOAT16 = b"\x93NUMPY\1\0\x76\0" + HEADER.ljust(0x75) + b"\n" + bytes(4)


def test_words_are_read_with_their_rows(tmp_path):
    (tmp_path / "glove.txt").write_text("the 1 2.5\n. . . -3 1e-2\n\n")
    rows, words = read_vectors(tmp_path / "glove.txt")
    assert words == ["the", ". . ."]
    assert rows.tolist() == [[1, 2.5], [-3, pytest.approx(0.01)]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.txt", b"", "has 0 rows"),
        ("t.txt", b"3 2\nthe 1 2\nof 3 4\n", "has 2 rows, its first line says 3"),
        ("t.txt", b"the\t1\t2\n", "line 1: not a word and numbers, separated by spaces"),
        ("t.txt", b"the 1 2\nof 3 x\n", "line 2: not a word and numbers"),
        ("t.txt", b"the 1 2\nof\n", "line 2: "),
        ("t.txt", b"the 1 2\n1999 3\n", "line 2: 1 numbers, not 2"),
        ("t.npy", b"", "no array of numbers"),
        ("t.npy", b"not an array", "no array of numbers"),
        ("t.npy", BFLOAT16, "as bfloat16 is written: save it as float32"),
        ("t.safetensors", b"junk", "not a whole safetensors file"),
        ("t.kv", b"", "DEFINE_MODULES=gensim"),
        ("t.bin", b"PK\3\4", "does not begin with sizes"),
        ("t.bin", b"2 3\nw 0123", "too few for 2 rows"),
        ("t.bin", b"1 1\nwwwwwwww", "ends in row 1"),
    ],
)
def test_what_is_no_table_is_named(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        read_vectors(path)
    assert str(path) in str(error.value)


def test_the_command_compresses_word_vectors(tmp_path, capsys):
    source, output = tmp_path / "glove.txt", tmp_path / "small"
    rows = table()
    lines = (f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows.tolist()))
    source.write_text("".join(lines))
    main(["compress", str(source), "--output", str(output), "--share", "0.3"])
    embedding, words = load_table(output)
    assert words == [f"w{i}" for i in range(300)]
    assert stored_bytes(embedding) <= 0.3 * rows.nbytes
    frequent = embedding.weight[:30].detach()
    assert (frequent - rows[:30]).square().sum() < 0.01 * rows[:30].square().sum()
    printed = capsys.readouterr()
    assert f"{stored_bytes(embedding):,} bytes" in printed.out
    assert "s left" in printed.err  # also where it is piped
    report = (output / "README.md").read_text()
    assert "error by rank: 1-10 " in report and "nearest neighbours" in report
    assert "<svg" in (output / "compression.svg").read_text()


class Gone(io.StringIO):
    """A reader that has seen enough, as `head` has."""

    def write(self, _):
        raise BrokenPipeError

    def fileno(self):
        return os.open(os.devnull, os.O_WRONLY)


def test_what_nobody_reads_is_written_all_the_same(tmp_path, monkeypatch):
    np.save(tmp_path / "t.npy", table().numpy())
    (tmp_path / "weights").write_text("1\n" * 300)
    monkeypatch.setattr("sys.stdout", Gone())
    output = ["--output", str(tmp_path / "small"), "--weights", str(tmp_path / "weights")]
    with pytest.raises(SystemExit):
        main(["compress", str(tmp_path / "t.npy"), "--share", "0.3", *output])
    assert load_table(tmp_path / "small")[0].num_embeddings == 300
