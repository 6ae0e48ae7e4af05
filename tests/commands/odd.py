"""Texts as they come: marks, streams, spaces and scripts that a tidy text does not have."""

import gzip
import lzma
import random

MARK = "\ufeff"
LINES = (
    "the\u00a0cat sat",
    "a line\u2028inside another\u2029one",
    "שלום עולם مرحبا",
    "👩\u200d👩\u200d👧 smiles 🎉",
    "",
    "",
    "<eos> and <unk> and <pad> \u2581 text",
    "tab\there\x0bvertical\x0cform",
    "e\u0301 \u00e9 \ufb01",
    "nul\x00 \x1c\x85 bell\x07",
    "| a * b * `c` <script>alert(1)</script>",
    "$x_1$ \\frac{1}{2} %s {} {0}",
    "\u200b \ufeff \u3000 wide",
    "你好 世界",
)


def lines(count, seed):
    """Plain lines with an odd one after every two."""
    draw = random.Random(seed)
    plain = [" ".join(f"w{draw.randrange(20)}" for _ in range(6)) for _ in range(count)]
    odd = [LINES[i // 3 % len(LINES)] for i in range(count)]
    return [odd[i] if i % 3 == 2 else plain[i] for i in range(count)]


def write_texts(folder):
    """Train in two streams with padding, valid in two members, test as it is."""
    folder.mkdir()
    first = MARK + "\r\n".join([*lines(90, 1), "long " * 5000]) + "\r\n"
    second = "\n".join(lines(60, 2)) + "\n"
    parts = (lzma.compress(part.encode()) + bytes(4) for part in (first, second))
    (folder / "train.txt.xz").write_bytes(b"".join(parts))
    valid = (MARK + "\r\n".join(lines(60, 3))).encode()
    (folder / "valid.txt.gz").write_bytes(gzip.compress(valid[:100]) + gzip.compress(valid[100:]))
    (folder / "test.txt").write_bytes((MARK + "\n".join(lines(60, 4))).encode())
    return folder


def write_pairs(folder):
    """The same as parallel texts, with a mark and CRLF."""
    folder.mkdir()
    for split, count in (("train", 120), ("valid", 20), ("test", 20)):
        for language, seed in (("en", 1), ("de", 2)):
            text = MARK + "\r\n".join(lines(count, seed)) + "\r\n"
            (folder / f"{split}.{language}").write_bytes(text.encode())
    return folder
