import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from define.__main__ import main
from define.measures import correlation
from define.report import find_words, is_checkpoint, read_checkpoint, some_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Special tokens and single bytes first, then words in the order of their frequency.
WORDS = ["<pad>", "<s>", *"!?.", *(f"Ġ{a}{b}{a}{b}" for a in LETTERS[:4] for b in LETTERS)]
TABLE = torch.randn(len(WORDS) + 3, 12, generator=torch.Generator().manual_seed(5))


def bpe(words=WORDS):
    """As the tokenizers of GPT-2 and Llama are kept."""
    added = [{"id": i, "content": word} for i, word in enumerate(words[:2])]
    vocabulary = {word: i for i, word in enumerate(words) if i >= 2}
    return {"added_tokens": added, "model": {"type": "BPE", "vocab": vocabulary}}


def checkpoint(folder, tensors, tokenizer=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "tiny"}))
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer or bpe()))
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    "name",
    [
        *("transformer.wte.weight", "wte.weight", "model.embed_tokens.weight", "shared.weight"),
        "bert.embeddings.word_embeddings.weight",
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_table_is_found_by_its_name(tmp_path, name, dtype):
    others = {"lm_head.weight": TABLE + 1, "wpe.weight": torch.randn(200, 12), "ln": TABLE[0] + 0}
    folder = checkpoint(tmp_path, {name: TABLE.to(dtype), **others})
    assert is_checkpoint(folder) and not is_checkpoint(tmp_path.parent)
    found = read_checkpoint(folder)
    assert torch.equal(found.table, TABLE.to(dtype)[: len(WORDS)])
    assert list(found.words) == WORDS
    assert (found.name, found.embedding) == (folder.name, "tiny")
    assert f"{name}, {len(TABLE)} x 12, of which {len(WORDS)} rows have a word" in found.settings


def test_the_shared_table_goes_before_those_that_are_tied_to_it(tmp_path):
    tensors = {"encoder.embed_tokens.weight": TABLE - 1, "decoder.embed_tokens.weight": TABLE + 1}
    folder = checkpoint(tmp_path, tensors)
    with pytest.raises(
        ValueError, match=r"several tables, decoder.embed_tokens.* encoder.* --table"
    ):
        read_checkpoint(folder)
    named = read_checkpoint(folder, "decoder.embed_tokens.weight")
    assert torch.equal(named.table, tensors["decoder.embed_tokens.weight"][: len(WORDS)])
    folder = checkpoint(tmp_path, {**tensors, "model.shared.weight": TABLE})
    assert torch.equal(read_checkpoint(folder).table, TABLE[: len(WORDS)])


def test_weights_in_several_files(tmp_path):
    folder = checkpoint(tmp_path, {"h.0.weight": torch.randn(3, 3)})
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    save_file({"wte.weight": TABLE}, folder / "b.safetensors")
    index = {"weight_map": {"h.0.weight": "a.safetensors", "wte.weight": "b.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert torch.equal(read_checkpoint(folder).table, TABLE[: len(WORDS)])


def test_words_of_other_tokenizers(tmp_path):
    unigram = {"added_tokens": [], "model": {"vocab": [[word, -1.0] for word in WORDS]}}
    folder = checkpoint(tmp_path, {"wte.weight": TABLE}, unigram)
    assert list(read_checkpoint(folder).words) == WORDS
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("".join(f"{word}\n" for word in WORDS))
    assert list(read_checkpoint(folder).words) == WORDS
    (folder / "vocab.json").write_text(json.dumps({"a": 0, "b": 3}))
    assert read_checkpoint(folder).words == ("a", "<id 1>", "<id 2>", "b")


def test_words_are_chosen_without_frequencies():
    chosen = [WORDS[i] for i in some_words(WORDS, None, 5)]
    assert len(chosen) == 5 and all(word.startswith("Ġ") for word in chosen)
    assert find_words(WORDS, ["abab", "!"]) == [WORDS.index("Ġabab"), WORDS.index("!")]
    with pytest.raises(ValueError, match="'zzz' is not among the 109 words"):
        find_words(WORDS, ["abab", "zzz"])


@pytest.mark.parametrize(
    ("tensors", "tokenizer", "table", "message"),
    [
        ({"x.weight": TABLE, "b": TABLE[0] + 1}, None, None, r"x\.weight \(112 x 12\): name one"),
        ({"wte.weight": TABLE}, None, "gone", r"no matrix 'gone'; it has wte\.weight"),
        ({"wte.weight": TABLE[:50].clone()}, None, None, "109 words, the table wte.weight 50 rows"),
        ({"wte.weight": TABLE.int()}, None, None, "torch.int32"),
        ({"wte.weight": TABLE}, {"model": {"vocab": {}}}, None, "no vocabulary"),
        ({"wte.weight": TABLE}, ["no object"], None, "one JSON object, not a list"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, tensors, tokenizer, table, message):
    with pytest.raises(ValueError, match=message):
        read_checkpoint(checkpoint(tmp_path, tensors, tokenizer), table)


def test_missing_and_broken_files_are_named(tmp_path):
    folder = checkpoint(tmp_path, {"wte.weight": TABLE})
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0no header at all")
    with pytest.raises(ValueError, match="model.safetensors is not a whole safetensors file"):
        read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no model.safetensors"):
        read_checkpoint(folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(FileNotFoundError, match="no tokenizer.json"):
        read_checkpoint(folder)


def test_checkpoints_are_analyzed_and_compared(tmp_path, capsys):
    first = checkpoint(tmp_path / "first", {"wte.weight": TABLE})
    second = checkpoint(tmp_path / "second", {"embed_tokens.weight": TABLE[:, :6] ** 3})
    main(
        [
            *("analyze", str(first), "--compare-with", str(second), "--words", "abab", "cdcd"),
            *("--output", str(tmp_path / "report")),
        ]
    )
    assert capsys.readouterr().out.strip() == str(tmp_path / "report" / "report.html")
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    numbers = json.loads((tmp_path / "report" / "numbers.json").read_text("utf-8"))
    for expected in ("Ġcdcd", "linear CKA", "| second ", "first words of the vocabulary", "tiny"):
        assert expected in text
    for unknown in ("Perplexity by frequency", "by frequency |", "in-out M", "Map to the output"):
        assert unknown not in text
    found = correlation(TABLE[: len(WORDS)])
    assert numbers[0]["unweighted"]["effective_rank"] == found.effective_rank
    assert numbers[0]["weighted_by_frequency"] is None and numbers[0]["summary"] is None
    assert {path.stem for path in (tmp_path / "report").glob("*.png")} == {
        *("correlation", "spectrum", "map")
    }


def test_other_vocabularies_are_refused(tmp_path):
    first = checkpoint(tmp_path / "first", {"wte.weight": TABLE})
    second = checkpoint(tmp_path / "second", {"wte.weight": TABLE}, bpe([*WORDS[:-1], "new"]))
    with pytest.raises(SystemExit, match="second has another vocabulary than .*first"):
        main(["analyze", str(first), str(second), "--output", str(tmp_path / "report")])
    assert not (tmp_path / "report").exists()


def test_transformers_is_not_imported(tmp_path):
    folder = checkpoint(tmp_path, {"wte.weight": TABLE})
    code = (
        "import sys; from define.__main__ import main;"
        f"main(['analyze', {str(folder)!r}, '--output', {str(tmp_path / 'report')!r}]);"
        "assert not {'transformers', 'lightning', 'tokenizers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
