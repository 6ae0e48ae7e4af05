"""What a run of translation is for others: a checkpoint of transformers alone, ONNX files."""

from typing import cast

import pytest
import torch
from safetensors.torch import load_file
from tiny_pairs import experiment
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from define import DeFINE
from define.translation.marian import write_marian

MAKERS = {"one table": nn.Embedding, "folded": lambda v, m: DeFINE(v, m, map=8, max_groups=2)}


@pytest.mark.parametrize("kind", MAKERS)
def test_it_translates_what_the_run_translates(kind, folder, tmp_path, caplog):
    ours, out = experiment(folder, MAKERS[kind]), tmp_path / "out"
    nn.init.normal_(cast(Tensor, ours.model.head.bias))
    out.mkdir()
    subwords = ours.corpus.tokenizer
    write_marian(ours.model, subwords, out, num_beams=2, onnx=kind == "folded")
    size = sum(tensor.numel() for tensor in load_file(out / "model.safetensors").values())
    table = len(subwords) * 16
    more = 2 * table if kind == "folded" else 0
    assert size == ours.model.parameter_counts().context + table + len(subwords) + more

    tokenizer = AutoTokenizer.from_pretrained(out)
    marian = AutoModelForSeq2SeqLM.from_pretrained(out).eval()
    lines = [*(folder / "test.en").read_text().splitlines(), "b <eos> e"]
    inputs = tokenizer(lines, return_tensors="pt", padding=True)
    for row, mask, ids in zip(*inputs.values(), subwords.encode(lines), strict=True):
        assert row[mask.bool()].tolist() == ids
    assert marian.generation_config.num_beams == 2
    for beams in (2, 1):
        found = marian.generate(**inputs, num_beams=beams)
        texts = tokenizer.batch_decode(found, skip_special_tokens=True)
        assert [text.strip() for text in texts] == ours.translate(lines, num_beams=beams)
    assert len(set(texts)) > 1

    source, targets = inputs["input_ids"], torch.randint(3, 50, (len(lines), 7))
    before = nn.functional.pad(targets[:, :-1], (1, 0))
    wanted = ours.model.head.log_prob(ours.model.hidden(source, targets))
    logits = marian(**inputs, decoder_input_ids=before).logits
    assert_close(logits.log_softmax(-1), wanted, atol=1e-5, rtol=1e-5)

    if kind == "folded":
        assert "torchvision" not in caplog.text  # which nobody asked for
        found = run_onnx(out, inputs, before).log_softmax(-1)
        assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def run_onnx(out, inputs, before):
    onnxruntime = pytest.importorskip("onnxruntime")
    arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
    encoder, decoder = (
        onnxruntime.InferenceSession(out / f"{part}_model.onnx") for part in ("encoder", "decoder")
    )
    (encoded,) = encoder.run(None, arrays)
    arrays = {
        "encoder_attention_mask": arrays["attention_mask"],
        "encoder_hidden_states": encoded,
        "input_ids": before.numpy(),
    }
    (logits,) = decoder.run(None, arrays)
    return torch.from_numpy(logits)
