import json

import pytest
import torch
from families import tiny_model
from safetensors import safe_open
from safetensors.torch import save_file
from tiny_models import MODELS, small_define
from tokenizers import Tokenizer, models
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig, PreTrainedTokenizerFast

from define.__main__ import main
from define.huggingface import embedding_of, replace_embedding
from define.huggingface.files import read_checkpoint
from define.measures import correlation, find_words, is_checkpoint, some_words

LETTERS = "abcdefghijklmnopqrstuvwxyz"
# Special tokens and single bytes first, then words in the order of their frequency.
WORDS = ["<pad>", "<s>", *"!?.", *(f"Ġ{a}{b}{a}{b}" for a in LETTERS[:3] for b in LETTERS)]


def tokenizer(words=WORDS):
    vocabulary = {word: i for i, word in enumerate(words)}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, "<pad>")), pad_token="<pad>"
    )


def checkpoint(folder, kind="gpt2", words=WORDS, **options):
    """A model of random weights, its tokenizer, and the model's input table."""
    model = MODELS[kind]().to(options.pop("dtype", torch.float32))
    model.save_pretrained(folder, **options)
    tokenizer(words).save_pretrained(folder)
    return folder, model.get_input_embeddings().weight.detach()


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_table_is_the_input_embedding(tmp_path, kind, dtype):
    folder, table = checkpoint(tmp_path, kind, dtype=dtype)
    assert is_checkpoint(folder) and not is_checkpoint(tmp_path.parent)
    found = read_checkpoint(folder)
    assert torch.equal(found.table, table[: len(WORDS)]) and found.table.dtype == dtype
    assert list(found.words) == WORDS
    assert (found.name, found.embedding) == (folder.name, kind)
    assert f"100 x 32, of which {len(WORDS)} rows have a word" in found.settings


def test_weights_in_several_files(tmp_path):
    folder, table = checkpoint(tmp_path, max_shard_size="20KB")
    assert len(list(folder.glob("*.safetensors"))) > 1
    assert torch.equal(read_checkpoint(folder).table, table[: len(WORDS)])


@pytest.mark.parametrize("kind", MODELS)
def test_a_table_that_is_computed(tmp_path, kind):
    model = replace_embedding(MODELS[kind](), small_define)
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    found = read_checkpoint(tmp_path)
    assert torch.equal(found.table, embedding_of(model).weight[: len(WORDS)])
    assert found.embedding == "DeFINE"


def test_a_table_by_its_name(tmp_path):
    folder, _ = checkpoint(tmp_path)
    with pytest.raises(ValueError, match=r"no matrix 'wte'; it has .*wte\.weight \(100 x 32\)"):
        read_checkpoint(folder, "wte")
    names = ("transformer.wpe.weight", "transformer.wte.weight")
    with pytest.raises(ValueError, match="83 words, the table transformer.wpe.weight 64 rows"):
        read_checkpoint(folder, names[0])
    assert read_checkpoint(folder, names[1]).table.shape == (len(WORDS), 32)


def changed(path, **settings):
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


@pytest.mark.parametrize("kind", ["gpt2", "bert", "llama"])
def test_a_kind_of_model_that_transformers_does_not_know(tmp_path, kind):
    folder, table = checkpoint(tmp_path, kind)
    code = {"AutoConfig": "own.Config", "AutoModel": "own.Model"}
    changed(folder / "config.json", model_type="my-own", auto_map=code)
    found = read_checkpoint(folder)
    assert torch.equal(found.table, table[: len(WORDS)]) and list(found.words) == WORDS
    assert found.embedding == "my-own" and "n_embd" in found.settings or kind != "gpt2"


def test_a_kind_of_several_parts_that_does_not_say_which_reads_tokens(tmp_path):
    model = tiny_model("clip")
    model.save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    table = model.text_model.embeddings.token_embedding.weight
    assert torch.equal(read_checkpoint(tmp_path).table, table[: len(WORDS)])


def test_several_tables_of_a_kind_that_is_not_known(tmp_path):
    MODELS["llama"](tie_word_embeddings=False).save_pretrained(tmp_path)
    tokenizer().save_pretrained(tmp_path)
    changed(tmp_path / "config.json", model_type="my-own")
    assert "# model.embed_tokens.weight" in read_checkpoint(tmp_path).settings
    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["other.embeddings.weight"] = tensors["model.embed_tokens.weight"] + 1
    save_file(tensors, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="2 matrices that may be the table.*other.embeddings"):
        read_checkpoint(tmp_path)
    found = read_checkpoint(tmp_path, "other.embeddings.weight")
    assert torch.equal(found.table, tensors["other.embeddings.weight"][: len(WORDS)])


class OwnConfig(PreTrainedConfig):
    model_type = "define-test-own"


def test_a_kind_of_model_that_is_registered_without_a_model(tmp_path):
    if OwnConfig.model_type not in CONFIG_MAPPING:
        AutoConfig.register(OwnConfig.model_type, OwnConfig)
    folder, table = checkpoint(tmp_path)
    changed(folder / "config.json", model_type=OwnConfig.model_type)
    assert torch.equal(read_checkpoint(folder).table, table[: len(WORDS)])


def test_words_without_ids_between_others_get_a_name(tmp_path):
    folder, _ = checkpoint(tmp_path)
    content = json.loads((folder / "tokenizer.json").read_text())
    content["model"]["vocab"]["new"] = len(WORDS) + 1
    (folder / "tokenizer.json").write_text(json.dumps(content))
    assert read_checkpoint(folder).words[-2:] == (f"<id {len(WORDS)}>", "new")


def test_byte_order_marks_are_no_part_of_words(tmp_path):
    folder, _ = checkpoint(tmp_path / "json")
    path = folder / "tokenizer.json"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert list(read_checkpoint(folder).words) == WORDS
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the"]
    MODELS["bert"]().save_pretrained(tmp_path / "text")
    (tmp_path / "text" / "vocab.txt").write_text("".join(f"{x}\n" for x in words), "utf-8-sig")
    assert list(read_checkpoint(tmp_path / "text").words) == words


def test_words_are_chosen_without_frequencies(caplog):
    chosen = [WORDS[i] for i in some_words(WORDS, None, 5)]
    assert len(chosen) == 5 and all(word.startswith("Ġ") for word in chosen)
    expected = [WORDS.index("Ġabab"), WORDS.index("!")]
    assert find_words(WORDS, ["abab", "zzz", "!"]) == expected
    assert "'zzz' is not among the 83 words of the vocabulary: left out" in caplog.text
    with pytest.raises(ValueError, match="'zzz', 'yyy' are not among the 83 words"):
        find_words(WORDS, ["zzz", "yyy"])
    assert find_words(WORDS, []) == []


def test_files_that_are_missing_or_damaged(tmp_path):
    folder, _ = checkpoint(tmp_path)
    (folder / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0no header at all")
    with pytest.raises(ValueError, match="model.safetensors is damaged"):
        read_checkpoint(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="no weights in safetensors files"):
        read_checkpoint(folder)
    (folder / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="model_type"):
        read_checkpoint(folder)


def test_checkpoints_are_analyzed_and_compared(tmp_path, capsys):
    (first, table), (second, _) = (checkpoint(tmp_path / name) for name in ("first", "second"))
    main(
        [
            *("analyze", str(first), "--compare-with", str(second), "--words", "abab", "cdcd"),
            *("--output", str(tmp_path / "report")),
        ]
    )
    assert capsys.readouterr().out.strip() == str(tmp_path / "report" / "report.html")
    text = (tmp_path / "report" / "report.md").read_text("utf-8")
    numbers = json.loads((tmp_path / "report" / "numbers.json").read_text("utf-8"))
    for expected in ("Ġcdcd", "linear CKA", "| second ", "first words of the vocabulary", "gpt2"):
        assert expected in text
    for unknown in ("Perplexity by frequency", "by frequency |", "in-out M", "Map to the output"):
        assert unknown not in text
    found = correlation(table[: len(WORDS)])
    assert numbers[0]["unweighted"]["effective_rank"] == found.effective_rank
    assert numbers[0]["weighted_by_frequency"] is None and numbers[0]["summary"] is None
    assert {path.stem for path in (tmp_path / "report").glob("*.svg")} == {
        *("correlation", "spectrum", "map-1")
    }


def test_other_vocabularies_are_refused(tmp_path):
    first, _ = checkpoint(tmp_path / "first")
    second, _ = checkpoint(tmp_path / "second", words=[*WORDS[:-1], "new"])
    with pytest.raises(SystemExit, match="second has another vocabulary than .*first"):
        main(["analyze", str(first), str(second), "--output", str(tmp_path / "report")])
    assert not (tmp_path / "report").exists()
