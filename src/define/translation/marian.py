"""A translation model as a checkpoint that transformers alone reads, and as ONNX files."""

from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import GenerationConfig, MarianMTModel, PreTrainedTokenizerFast

from define.data import Subwords
from define.huggingface.onnx import write_onnx
from define.translation.model import TranslationModel

__all__ = ["search_config", "write_marian"]


def search_config(tokenizer: Subwords, num_beams: int, max_length: int) -> GenerationConfig:
    """How translations are searched: scores divided by length, no `<pad>` and no `<unk>`."""
    return GenerationConfig(
        num_beams=num_beams,
        do_sample=False,
        length_penalty=1.0,
        max_length=max_length,
        suppress_tokens=[tokenizer.padding, tokenizer.unknown],
        pad_token_id=tokenizer.padding,
        eos_token_id=tokenizer.end,
        decoder_start_token_id=tokenizer.padding,
    )


def write_marian(
    model: TranslationModel, tokenizer: Subwords, folder: Path, num_beams: int, onnx: bool
) -> None:
    """Writes the folder of a `MarianMTModel` with its tokenizer, ready to translate.

    With `onnx` also `encoder_model.onnx` (`input_ids`, `attention_mask` to `last_hidden_state`) and
    `decoder_model.onnx` (`encoder_attention_mask`, `input_ids`, `encoder_hidden_states` to
    `logits` of all places): the names that Optimum looks for.
    """
    marian, longest = model.eval().to_marian().eval(), model.config.max_position_embeddings
    marian.generation_config = search_config(tokenizer, num_beams, longest)
    marian.save_pretrained(folder)
    _write_tokenizer(tokenizer, folder, longest)
    if onnx:
        _write_onnx(marian, folder)


def _write_tokenizer(tokenizer: Subwords, folder: Path, longest: int) -> None:
    tokenizer.write(folder / "tokenizer.json")
    pad, end, unknown = tokenizer.vocabulary.words[:3]
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token=pad,
        eos_token=end,
        unk_token=unknown,
        model_max_length=longest,
        split_special_tokens=True,  # an `<eos>` written in a text is text
    )
    fast.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.end)]
    )
    fast.save_pretrained(folder)


class _Encoder(nn.Module):
    def __init__(self, marian: MarianMTModel) -> None:
        super().__init__()
        self.encoder = marian.get_encoder()

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        return self.encoder(input_ids=ids, attention_mask=mask).last_hidden_state


class _Decoder(nn.Module):
    def __init__(self, marian: MarianMTModel) -> None:
        super().__init__()
        self.marian = marian

    def forward(self, mask: Tensor, ids: Tensor, encoded: Tensor) -> Tensor:
        return self.marian(
            attention_mask=mask, decoder_input_ids=ids, encoder_outputs=(encoded,), use_cache=False
        ).logits


def _write_onnx(marian: Any, folder: Path) -> None:  # noqa: ANN401
    ids, mask = (torch.ones(2, 5, dtype=torch.int64) for _ in range(2))  # no tensor twice
    batch, source, target = (torch.export.Dim(name) for name in ("batch", "source", "target"))
    read, written = {0: batch, 1: source}, {0: batch, 1: target}
    write_onnx(
        _Encoder(marian).eval(),
        (ids, mask),
        folder / "encoder_model.onnx",
        input_names=["input_ids", "attention_mask"],
        output_names=["last_hidden_state"],
        dynamic_shapes=(read, read),
    )
    encoded = torch.zeros(2, 5, marian.config.d_model)
    write_onnx(
        _Decoder(marian).eval(),
        (mask, ids[:, :3], encoded),
        folder / "decoder_model.onnx",
        input_names=["encoder_attention_mask", "input_ids", "encoder_hidden_states"],
        output_names=["logits"],
        dynamic_shapes=(read, written, read),
    )
