import pytest
import tiny_models
import torch
import transformers
from families import V, tiny_model
from test_compress import words
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from define.__main__ import main
from define.huggingface.sample import count_tokens
from define.huggingface.trim import trim
from define.huggingface.twins import output

TEXT = [f"the {a}{b}ing of {b}{a}s and un{a}able {i}" for a in ("read", "jump", "lift") for b in
        ("walk", "sing", "drift") for i in range(20)]  # fmt: skip
KEPT = ["the walking of reads and unreadable 7", "singing jumps"]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>", "<mask>"]


def tokenizer_of(kind):
    if kind == "unigram":
        tokenizer = Tokenizer(models.Unigram())
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
        options = {"unk_token": "<unk>"}
        trainer = trainers.UnigramTrainer(vocab_size=90, special_tokens=SPECIAL, **options)
    elif kind == "bpe":
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        alphabet = pre_tokenizers.ByteLevel.alphabet()
        trainer = trainers.BpeTrainer(
            vocab_size=340, special_tokens=SPECIAL, initial_alphabet=alphabet
        )
    else:
        tokenizer = Tokenizer(models.WordPiece(unk_token="<unk>"))
        tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        trainer = trainers.WordPieceTrainer(vocab_size=120, special_tokens=SPECIAL)
    tokenizer.train_from_iterator(TEXT, trainer)
    ids = [(token, tokenizer.token_to_id(token)) for token in ("<s>", "</s>")]
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=ids)
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        mask_token="<mask>",
    )


def model_of(size, tokenizer):
    return tiny_models.llama(
        vocab_size=size,
        intermediate_size=size,  # no table, but as long
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=tokenizer.eos_token_id,
    ).eval()


@pytest.mark.parametrize("kind", ["unigram", "bpe", "wordpiece"])
def test_texts_of_kept_tokens_give_the_same_outputs_under_new_ids(kind):
    tokenizer = tokenizer_of(kind)
    size = len(tokenizer) + 3  # tables are often longer than vocabularies
    model = model_of(size, tokenizer)
    before = model.state_dict()["model.embed_tokens.weight"].clone()
    smaller, short = trim(model, tokenizer, KEPT)
    assert torch.equal(model.state_dict()["model.embed_tokens.weight"], before)
    assert len(short) == smaller.config.vocab_size < len(tokenizer)
    assert smaller.get_input_embeddings().weight.shape[0] == len(short)
    assert short.eos_token_id == smaller.config.eos_token_id
    for text in (*KEPT, "unreadable jumps of 7"):
        old, new = (tok(text, return_tensors="pt")["input_ids"] for tok in (tokenizer, short))
        tokens = tokenizer.convert_ids_to_tokens(old[0])
        assert short.convert_ids_to_tokens(new[0]) == tokens
        place = [tokenizer.get_vocab()[t] for t in short.convert_ids_to_tokens(range(len(short)))]
        with torch.no_grad():
            torch.testing.assert_close(smaller(new).logits, model(old).logits[..., place])
        assert short.decode(new[0]) == tokenizer.decode(old[0])


@pytest.mark.parametrize(
    "kind", ["mbart", "pegasus", "mobilebert", "gemma3n_text", "clip_text_model"]
)
def test_all_that_has_a_place_for_each_token_is_cut(kind, tmp_path):
    model, tokenizer = tiny_model(kind), words(V, unk_token="w0")
    smaller, short = trim(model, tokenizer, ["w5 w61 w9", "w20 w7"])
    old = torch.tensor([[9, 61, 7, 20, 5]])
    new = torch.tensor([short("w9 w61 w7 w20 w5")["input_ids"]])
    places = [int(token[1:]) for token in short.convert_ids_to_tokens(range(len(short)))]

    def read(model, ids):
        sides = ("input_ids", "decoder_input_ids")[: 1 + model.config.is_encoder_decoder]
        return output(model, dict.fromkeys(sides, ids))

    expected, found = read(model, old), read(smaller, new)
    expected = expected if expected.shape == found.shape else expected[..., places]
    torch.testing.assert_close(found, expected)
    smaller.save_pretrained(tmp_path)
    torch.testing.assert_close(read(type(smaller).from_pretrained(tmp_path), new), expected)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("fsmt", {}, "would not load: its configuration says another size of"),
        ("encoder-decoder", {}, "EncoderDecoderModel cannot be cut by transformers"),
        ("gemma3n_text", {"vocab_size_per_layer_input": 90}, "has 90 rows, not 100"),
    ],
)
def test_what_cannot_be_cut_is_refused(kind, options, message):
    with pytest.raises(ValueError, match=message):
        trim(tiny_model(kind, **options), words(V, unk_token="w0"), ["w5 w61 w9"])


def test_settings_that_name_tokens_follow_them(tmp_path):
    tokenizer = tokenizer_of("bpe")
    size = len(tokenizer) + 3
    model = tiny_models.llama(vocab_size=size, pad_token_id=size - 1, eos_token_id=2).eval()
    the, gone = tokenizer("the")["input_ids"][1], len(tokenizer) - 1
    settings = model.generation_config
    settings.suppress_tokens, settings.begin_suppress_tokens = [the, gone], [gone]
    settings.bad_words_ids, settings.lang_to_id = [[the, 5], [the, gone]], {"a": the}
    smaller, short = trim(model, tokenizer, KEPT)
    the, settings = short("the")["input_ids"][1], smaller.generation_config
    assert settings.suppress_tokens == [the] and settings.begin_suppress_tokens is None
    (words,) = settings.bad_words_ids
    assert short.convert_ids_to_tokens(words) == tokenizer.convert_ids_to_tokens(
        model.generation_config.bad_words_ids[0]
    )
    assert settings.lang_to_id == {"a": the}
    # The padding row, which the tokenizer does not know, is behind all others.
    assert smaller.config.pad_token_id == len(short) == smaller.config.vocab_size - 1
    smaller.save_pretrained(tmp_path)
    loaded = type(smaller).from_pretrained(tmp_path)
    assert loaded.get_input_embeddings().padding_idx == len(short)
    model.generation_config.sequence_bias = [[[the], -1.0]]
    with pytest.raises(ValueError, match="generation_config.sequence_bias names tokens"):
        trim(model, tokenizer, KEPT)


def test_the_command_trims_before_it_compresses(tmp_path, capsys):
    tokenizer = tokenizer_of("bpe")
    folder, output, text = tmp_path / "plain", tmp_path / "small", tmp_path / "text"
    model_of(len(tokenizer), tokenizer).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / "vocab.json").write_text("{}")
    text.write_text("\n".join(KEPT))
    options = ("--keep_tokens_of", str(text), "--share", "0.9", "--accept")
    main(["compress", str(folder), "--output", str(output), *options])
    short = transformers.AutoTokenizer.from_pretrained(output)
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    assert model.get_input_embeddings().weight.shape[0] == len(short) < len(tokenizer)
    ids = short(KEPT[0])["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(tokenizer(KEPT[0])["input_ids"])
    assert short.convert_ids_to_tokens(ids) == tokens
    assert not (output / "vocab.json").exists()
    assert f"{len(short):,} of {len(tokenizer):,} tokens kept" in capsys.readouterr().out


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(TypeError, match="must be a fast tokenizer"):
        trim(tiny_models.gpt2(), Slow(), KEPT)


def test_line_ends_are_counted_where_they_are_tokens():
    tokenizer = tokenizer_of("bpe")
    counts = count_tokens(tokenizer, KEPT, len(tokenizer))
    assert counts[tokenizer.get_vocab()["Ċ"]] == len(KEPT)


class Slow:
    def __call__(self, lines, **options):
        return {"input_ids": [[1, 2] for _ in lines]}
