import math

import pytest
import torch
from tiny_models import EMBEDDINGS, PADDING, V, bert, gemma, logits, marian, tokens
from torch import nn

from define import AdaptiveEmbedding, DeFINE
from define.huggingface import export_onnx, replace_embedding

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
# Checked annotations cannot be traced.
pytestmark = pytest.mark.usefixtures("unchecked")


def _run(path, **inputs):
    session = onnxruntime.InferenceSession(path)
    assert session.get_inputs()[0].shape == ["batch", "time"]
    (found,) = session.run(None, {name: tensor.numpy() for name, tensor in inputs.items()})
    return torch.from_numpy(found)


def test_embedding_in_an_embedding(tmp_path):
    map = AdaptiveEmbedding(V, 16, cutoffs=[20, 60], div_value=2)
    embedding = DeFINE(V, 32, PADDING, map=map, expand_dim=32, depth=2, max_groups=2)
    export_onnx(embedding, tmp_path / "file.onnx")
    graph = onnx.load(tmp_path / "file.onnx").graph
    numbers = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    parameters = sum(parameter.numel() for parameter in embedding.parameters())
    assert abs(numbers - parameters) < 50  # the factors, not the table
    for shape in [(1, 1), (3, 11)]:
        ids = torch.randint(V, shape)
        ids[0, 0] = PADDING
        found = _run(tmp_path / "file.onnx", ids=ids)
        torch.testing.assert_close(found, embedding(ids), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("make", [gemma, bert])
def test_models(make, tmp_path):
    model = replace_embedding(make(), EMBEDDINGS["define"])
    export_onnx(model, tmp_path / "file.onnx")
    ids = tokens(3, 11)
    mask = torch.ones_like(ids)
    mask[0, 7:] = 0
    found = _run(tmp_path / "file.onnx", input_ids=ids, attention_mask=mask)
    expected = logits(model, ids, attention_mask=mask)
    keep = mask.bool()
    torch.testing.assert_close(found[keep], expected[keep], atol=1e-4, rtol=1e-4)


def test_the_encoder_of_a_translation_model(tmp_path):
    encoder = replace_embedding(marian(), EMBEDDINGS["define"]).get_encoder().eval()
    export_onnx(encoder, tmp_path / "file.onnx")
    ids = tokens(3, 11)
    mask = torch.ones_like(ids)
    found = _run(tmp_path / "file.onnx", input_ids=ids, attention_mask=mask)
    torch.testing.assert_close(found, encoder(ids, mask)[0], atol=1e-4, rtol=1e-4)


def test_what_cannot_be_written(tmp_path):
    model = replace_embedding(marian(), EMBEDDINGS["define"])
    for part, name in ((model, "DefineMarianMTModel"), (model.get_decoder(), "MarianDecoder")):
        with pytest.raises(ValueError, match=f"{name} reads two sequences.*get_encoder"):
            export_onnx(part, tmp_path / "file.onnx")
    with pytest.raises(TypeError, match="Linear must be"):
        export_onnx(nn.Linear(2, 2), tmp_path / "file.onnx")
    with pytest.raises(ValueError, match=f"{2**31} bytes"):
        export_onnx(nn.Embedding(2**20, 2**9, device="meta"), tmp_path / "file.onnx")
