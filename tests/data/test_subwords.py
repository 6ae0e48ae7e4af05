import json
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from define.data import Subwords, Text

LINES = ["the cat <eos> sat ▁ on <pad> the ▁mat.", "", "<unk> home, home. The “end” – é!"]
SPECIAL = ("<pad>", "<eos>", "<unk>")


@pytest.fixture(scope="module")
def subwords():
    return Subwords.learn(LINES * 3, 55, special=SPECIAL)


def test_strings_of_special_tokens_are_text(subwords):
    rows = subwords.encode(LINES)
    assert subwords.decode(rows) == LINES
    for row in rows:
        assert row.index(1) == len(row) - 1 and not {0, 2} & {*row}
    again = Subwords._from_json(subwords._json, "again")
    assert again.encode(LINES) == rows


PARTS = [*"the mat.<>eospadunk▁é\n", "<eos>", "<pad>", "<unk>", " "]


@given(st.lists(st.sampled_from(PARTS)).map("".join))
def test_any_text_comes_back(text):
    subwords = Subwords.learn(LINES * 3, 55, special=SPECIAL)
    text = "\n".join(" ".join(line.split(" ")).strip() for line in text.split("\n"))
    while "  " in text:
        text = text.replace("  ", " ")
    assert subwords.decode_text(subwords.encode_text(text)) == text
    assert subwords.unknown not in subwords.encode_text(text)


def test_a_text_ends_where_it_ends(subwords):
    assert subwords.encode_text("the\n\ncat") == [*subwords.encode_text("the"), 1, 1] + (
        subwords.encode_text("cat")
    )
    assert subwords.encode_text("") == [] and subwords.encode_text("the cat \r") == (
        subwords.encode_text("the cat")
    )
    assert subwords.decode_text([*subwords.encode_text("the"), 1, 2, 0]) == "the\n<unk>"
    with pytest.raises(IndexError, match="id 55 is outside of a vocabulary of 55"):
        subwords.decode_text([55])


@pytest.mark.parametrize("size", [-1, 0, 2, 10**9])
def test_sizes_out_of_range(size):
    with pytest.raises(ValueError, match=f"size={size} must be above 2 and at most 1000000"):
        Subwords.learn(LINES, size)


SIGNS = [chr(0x4E00 + i) for i in range(1500)]


def test_a_script_of_many_characters_has_them(tmp_path):
    """As many as half of the vocabulary; letters that an English text only mentions have none."""
    chinese = [a + b for a, b in pairwise([*SIGNS, SIGNS[0]])]
    lines = ["".join(chinese[i : i + 10]) for i in range(0, 1500, 10)] * 3
    assert unknown(Subwords.learn(lines, 3600), lines) < 0.001
    assert 0 < unknown(Subwords.learn(iter(lines), 2400), lines) < 0.3
    english = [" ".join(["internationalization"] * 20)] * 8_000
    mixed = [Subwords.learn([*english, *SIGNS], 1010) for _ in range(2)]
    assert unknown(mixed[0], SIGNS) > 0.3 and mixed[0].fingerprint == mixed[1].fingerprint
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines), "utf-8")
    found = Text(tmp_path, tokenizer="bpe", size=3600).open().statistics("train")
    assert found.unknown < 0.01 * found.tokens


def unknown(subwords, lines):
    ids = [i for row in subwords.encode(lines, ends=False) for i in row]
    return ids.count(subwords.unknown) / sum(map(len, lines))


def bpe():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<|endoftext|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    return tokenizer, trainer


def unigram():
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    special = ["<unk>", "</s>"]
    trainer = trainers.UnigramTrainer(vocab_size=40, special_tokens=special, unk_token="<unk>")
    return tokenizer, trainer


def word_piece():
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    special = ["[UNK]", "[CLS]", "[SEP]"]
    return tokenizer, trainers.WordPieceTrainer(vocab_size=60, special_tokens=special)


def word_level():
    tokenizer = Tokenizer(models.WordLevel(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.WordLevelTrainer(special_tokens=["<unk>"])  # no line end


@pytest.fixture
def prose(tmp_path):
    lines = ["The cat sat on the mat.", "It sat, and sat.", "", "The mat: home sweet home!"] * 9
    for split in ("train", "valid", "test"):
        (tmp_path / f"{split}.txt").write_text("".join(f"{line}\n" for line in lines))
    return tmp_path


@pytest.mark.parametrize("kind", [bpe, unigram, word_piece, word_level])
def test_any_tokenizer_with_frequent_tokens_first(prose, kind):
    tokenizer, trainer = kind()
    text = (prose / "train.txt").read_text()
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    tokenizer.add_tokens(["sweet home"])
    tokenizer.enable_padding(length=40)
    tokenizer.enable_truncation(4)
    if kind is word_piece:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
        )
    path = prose / "given.json"
    tokenizer.save(str(path))
    corpus = Text(prose, tokenizer=str(path)).open()
    ids, size = corpus.split("train"), len(corpus.vocabulary)
    assert torch.equal(corpus.counts, torch.bincount(ids, minlength=size))
    assert (corpus.counts.diff() <= 0).all() and len(corpus.tokenizer) == size == len(corpus.counts)
    before = Subwords.read(path)
    assert size == len(before)
    back = [before.vocabulary.words.index(word) for word in corpus.vocabulary.words]
    assert [back[i] for i in ids] == before.encode_text(text)
    assert int((ids == corpus.tokenizer.end).sum()) == text.count("\n")
    assert corpus.vocabulary.words[int(ids[-1])] in ("<|endoftext|>", "</s>", "[SEP]", "<eos>")
    assert corpus.decode(ids.tolist()) == before.decode_text(back[i] for i in ids)
    if kind is bpe:
        assert corpus.decode(ids.tolist()) == text
    assert corpus.statistics("valid").words == len(text.split()) + text.count("\n")


@pytest.mark.parametrize("kind", [bpe, unigram, word_piece, word_level])
def test_line_ends_of_windows_are_line_ends(prose, kind):
    tokenizer, trainer = kind()
    text = (prose / "train.txt").read_text()
    tokenizer.train_from_iterator(text.split("\n"), trainer)
    subwords = Subwords(tokenizer)
    assert subwords.encode_text(text.replace("\n", "\r\n")) == subwords.encode_text(text)


def test_a_text_has_the_same_ids_each_time(prose, tmp_path):
    tokenizer, trainer = bpe()
    tokenizer.train_from_iterator((prose / "train.txt").read_text().split("\n"), trainer)
    expected = Subwords(tokenizer).encode(["The cat sat on the mat."] * 9)
    tokenizer.model.dropout = 0.5
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    read = Subwords.read(tmp_path / "tokenizer.json")
    assert read.encode(["The cat sat on the mat."] * 9) == expected


@pytest.mark.parametrize("special", ["</s>", "<pad>"])
def test_a_word_that_is_written_like_a_special_token_is_a_word(special):
    tokenizer = Tokenizer(models.WordLevel({"It": 0, special: 1, "sat": 2}))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    end = Subwords(tokenizer).end
    assert Subwords(tokenizer).encode([f"It {special} sat"]) == [[0, 2, end]]
    tokenizer.add_tokens(["<unk>"])
    unknown = tokenizer.token_to_id("<unk>")
    assert Subwords(tokenizer).encode([f"It {special} sat"]) == [[0, unknown, 2, end]]


def test_a_learned_tokenizer_and_that_of_a_run(prose, tmp_path, cache):
    text = Text(prose, tokenizer="bpe", size=40)
    corpus = text.open()
    assert len(corpus.vocabulary) == 40 and (corpus.counts.diff() <= 0).all()
    assert corpus.decode(corpus.split("train").tolist()) == (prose / "train.txt").read_text()
    run = tmp_path / "run"
    run.mkdir()
    corpus.write(run)
    again = Text(prose, run / "vocabulary.txt", tokenizer="bpe", size=40).open()
    assert again.vocabulary == corpus.vocabulary
    assert torch.equal(again.split("train"), corpus.split("train"))
    assert again.encode("The mat!") == corpus.encode("The mat!")
    away = Text(tmp_path / "away", run / "vocabulary.txt", tokenizer="bpe").open()
    assert away.decode(away.encode("The mat!")) == "The mat!"
    with pytest.raises(ValueError, match="vocabulary.txt is of subwords.* tokenizer must be 'bpe'"):
        Text(prose, run / "vocabulary.txt").open().split("valid")
    (run / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"tokenizer\.json is no file"):
        _ = Text(prose, run / "vocabulary.txt", tokenizer="bpe").open().vocabulary


def test_a_limit_of_tokens_takes_the_same_text_as_with_words(prose):
    words = Text(prose, tokens=33, min_count=1).open()
    subwords = Text(prose, tokens=33, tokenizer="bpe", size=40).open()
    whole = (prose / "train.txt").read_text()
    text = subwords.decode(subwords.split("train").tolist())
    assert whole.startswith(text) and len(text.split()) + text.count("\n") == 33
    assert text.split() == words.decode(words.split("train").tolist()).split()
    mine, theirs = subwords.statistics("train"), words.statistics("train")
    assert (mine.words, mine.characters) == (theirs.words, theirs.characters)


@pytest.mark.parametrize("most", [4, 9])  # also where the text has none of the last ones
def test_ids_that_are_left_out_are_refused(tmp_path, most):
    words = {"<unk>": 0, **{f"w{i}": i + 5 for i in range(10)}}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    file = tmp_path / "tokenizer.json"
    tokenizer.save(str(file))
    (tmp_path / "train.txt").write_text("".join(f"w{i} w0\n" for i in range(most + 1)))
    with pytest.raises(ValueError, match=r"tokenizer\.json must give its 12 tokens ids below that"):
        _ = Text(tmp_path, tokenizer=file).open().vocabulary


def test_a_faulty_text_and_tokenizers_that_are_none(prose):
    with (prose / "train.txt").open("ab") as file:
        file.write(b"f\xffine\n")
    with pytest.raises(ValueError, match=r"train\.txt, line 37: not UTF-8"):
        _ = Text(prose, tokenizer="bpe", size=50).open().vocabulary
    path = prose / "tokenizer.json"
    for content in (b"", b"\xff", b"null", b"[" * 10**5, b'{"model": null}'):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"tokenizer\.json(, line 1: not UTF-8| is not a tok)"):
            Subwords.read(path)
    Subwords.learn(LINES * 3, 50).write(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(Subwords.read(path)) == 50
    merges = json.loads(path.read_text("utf-8-sig"))
    merges["model"]["merges"].append(["no", "where"])
    path.write_text(json.dumps(merges))
    with pytest.raises(ValueError, match=r"tokenizer\.json is not a tokenizer"):
        Subwords.read(path)
