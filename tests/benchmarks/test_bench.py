"""The benchmark's peers compute what the package does; its report says what was measured."""

import json

import bench
import peers
import pytest
import torch
from sections import SECTIONS, Section
from torch import nn

from define import AdaptiveEmbedding, AdaptiveSoftmax, DeFINE, LanguageModel, TransformerXL
from define.recipes.models import lstm


def test_the_unit_per_token():
    embedding = DeFINE(50, 12, map=16, expand_dim=32, depth=3, max_groups=4)
    ids = torch.randint(50, (3, 5))
    torch.testing.assert_close(peers.PlainDeFINE(embedding)(ids), embedding(ids))


@pytest.fixture
def adaptive():
    """The peer's tables and ours with the same numbers, for ids and hidden states."""
    plain = peers.PlainAdaptive(60, 6, 16, [10, 30])
    ours = AdaptiveEmbedding(60, 16, cutoffs=[10, 30], map_dim=6, div_value=1)
    head = AdaptiveSoftmax(ours, 16, bias=True, cluster_bias=True)
    with torch.no_grad():
        for band, table, projection in zip(
            ours.bands(), plain.tables, plain.projections, strict=True
        ):
            band.table.copy_(table)
            band.projection.copy_(projection)
        head.cluster_weight.copy_(plain.clusters)
        for bias in (*plain.biases, plain.cluster_bias):
            bias.normal_()
        head.bias.copy_(torch.cat(list(plain.biases)))
        head.cluster_bias.copy_(plain.cluster_bias)
    return plain, ours, head


def test_adaptive_input_and_softmax(adaptive):
    plain, ours, head = adaptive
    ids, hidden = torch.randint(60, (40,)), torch.randn(40, 16)
    torch.testing.assert_close(plain.embed(ids), ours(ids) * 4)
    torch.testing.assert_close(plain.loss(hidden, ids), head(hidden, ids).mean())


def test_transformer_xl_over_two_segments(adaptive):
    plain, ours, head = adaptive
    model = peers.PlainTransformerXL(plain, 2, 16, 2, 8, 32).eval()
    backbone = TransformerXL(
        16, 2, num_heads=2, head_dim=8, inner_dim=32, memory_length=5, input_scale=4.0
    ).eval()
    language_model = LanguageModel(ours, backbone, head)
    values = [p for n, p in model.named_parameters() if not n.startswith("embedding.")]
    parameters = dict(backbone.named_parameters())
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.normal_(std=0.3)
            if name.endswith("query.weight"):
                joined = torch.cat([parameter, parameters[name.replace("query", "key_value")]])
                joined[16:].normal_(std=0.3)
                parameters[name.replace("query", "key_value")].copy_(joined[16:])
                values.pop(0).copy_(joined)
            elif name.endswith("key_value.weight"):
                parameter.copy_(joined[16:])
            else:
                values.pop(0).copy_(parameter)
    memory = state = None
    for tokens in torch.randint(60, (2, 2, 6)):
        expected, state = language_model(tokens[:, :-1], tokens[:, 1:], state)
        found, memory = model(tokens[:, :-1], tokens[:, 1:], memory)
        torch.testing.assert_close(found, expected.mean())


def test_awd_lstm_has_as_many_parameters():
    plain = peers.PlainAWDLSTM(50, 8, 12)
    ours = lstm(
        50,
        nn.Embedding,
        embedding_dim=8,
        embedding_std=0.1,
        hidden_size=12,
        num_layers=3,
        output_size=8,
    )
    bias = 50 - sum(p.numel() for n, p in ours.named_parameters() if n == "head.bias")
    assert sum(p.numel() for p in plain.parameters()) == bias + sum(
        p.numel() for p in ours.parameters()
    )
    tokens = torch.randint(50, (2, 4, 7))
    plain(*tokens).backward()
    assert all(p.grad is not None for p in plain.parameters())


def test_the_report(monkeypatch, tmp_path):
    x = torch.randn(100, 100)
    section = Section("Products", "Two.", {"one": lambda: x @ x, "two": lambda: (x @ x, x @ x)})
    monkeypatch.setitem(SECTIONS, "unit", lambda full: [lambda: section])
    bench.main(["--only", "unit", "--rounds", "3", "--output", str(tmp_path)])
    numbers = json.loads((tmp_path / "bench.json").read_text())
    assert [len(t) for t in numbers["sections"]["Products"]["seconds"].values()] == [3, 3]
    assert numbers["machine"]["torch"] == torch.__version__
    assert "| one | " in (tmp_path / "bench.md").read_text()


def test_what_cannot_be_written_is_said_before_the_first_round(monkeypatch, tmp_path):
    monkeypatch.setitem(SECTIONS, "unit", None)  # whatever is measured fails
    file = tmp_path / "bench"
    file.touch()
    for options in (["--output", str(file)], ["--rounds", "0"]):
        with pytest.raises(SystemExit):
            bench.main(["--only", "unit", *options])


def test_ratios_are_taken_round_by_round():
    found = bench.summarize({"a": [1.0, 10.0, 100.0], "b": [2.0, 20.0, 400.0]})
    assert found["b"]["ratio"] == 2.0
    assert found["a"] == {"ms": 10_000.0, "ratio": 1.0, "low": 1.0, "high": 1.0}


def test_the_device_of_others_stays(tmp_path):
    with torch.device("meta"):
        bench.main(["--only", "unit", "--rounds", "1", "--output", str(tmp_path)])
        assert torch.empty(1).device.type == "meta"
