import pytest
import tiny_models
import torch
import transformers
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

import define.huggingface  # noqa: F401  # AutoModel then knows our checkpoints
from define.__main__ import main
from define.embedding import DeFINE
from define.huggingface import embedding_of
from define.huggingface.compress import compress, load_plain, read_weights

WIDTHS = ("--map", "8", "--expand_dim", "16", "--rounds", "2")


def small(size, width, padding_idx=None):
    return DeFINE(size, width, padding_idx, map=8, expand_dim=16, depth=1, max_groups=1)


def relative_error(table, other):
    table, other = table.detach(), other.detach()
    return float((table - other).square().sum() / table.square().sum())


def words(size, **special):
    vocabulary = {f"w{i}": i for i in range(size)}
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(WordLevel(vocabulary, unk_token="w0")), **special
    )


@pytest.fixture
def checkpoint(tmp_path):
    tiny_models.gpt2().save_pretrained(tmp_path / "plain")
    return tmp_path / "plain"


def test_command_compresses_a_checkpoint(checkpoint, tmp_path, capsys):
    tokenizer = words(tiny_models.V, unk_token="w0")
    tokenizer.save_pretrained(checkpoint)
    output = tmp_path / "small"
    main(["compress", str(checkpoint), "--output", str(output), *WIDTHS])
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


def test_share_says_its_widths(checkpoint, tmp_path, capsys):
    output = tmp_path / "small"
    main(["compress", str(checkpoint), "--output", str(output), "--share", "0.5", "--rounds", "1"])
    embedding = embedding_of(transformers.AutoModelForCausalLM.from_pretrained(output))
    count = sum(p.numel() for p in embedding.parameters())
    assert count <= 0.5 * tiny_models.V * tiny_models.M
    assert f"map={embedding.map_dim}, " in (printed := capsys.readouterr().out)
    assert f"{count:,} parameters" in printed


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
    assert "share=0.001" in failure(capsys, checkpoint, *output, "--share", "0.001")
    assert "--share or --map" in failure(capsys, checkpoint, *output)
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
