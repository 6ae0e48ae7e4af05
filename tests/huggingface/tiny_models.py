"""Models of transformers with random weights, small enough to be made anew by every test."""

from functools import partial

import torch
import transformers
from torch import nn

from define import AdaptiveEmbedding, DeFINE, ProjectedEmbedding

V, M = 100, 32  # vocabulary and width
PADDING = 3
LAYERS = {"num_hidden_layers": 1, "num_attention_heads": 2, "max_position_embeddings": 64}
WIDTHS = {"vocab_size": V, "hidden_size": M, "intermediate_size": 48}
SPECIAL = {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": PADDING}

small_define = partial(DeFINE, map=16, expand_dim=32, depth=2, max_groups=2)
EMBEDDINGS = {
    "define": small_define,
    "projected": partial(ProjectedEmbedding, map=8),
    "adaptive": partial(AdaptiveEmbedding, cutoffs=[20, 60], map_dim=16, div_value=2),
    "plain": nn.Embedding,
}
# Kind of embedding, and how the output is tied: as the model's was, or not at all.
VARIANTS = [*((kind, None) for kind in EMBEDDINGS), ("define", False)]


def gpt2(**options):
    widths = {"vocab_size": V, "n_embd": M, "n_layer": 1, "n_head": 2, "n_positions": 64}
    config = transformers.GPT2Config(**{**widths, **SPECIAL, **options})
    return transformers.GPT2LMHeadModel(config)


def llama(**options):
    options = {**WIDTHS, **LAYERS, **SPECIAL, "num_key_value_heads": 1, **options}
    return transformers.LlamaForCausalLM(
        transformers.LlamaConfig(**{"tie_word_embeddings": True, **options})
    )


def gemma(**options):
    options = {**WIDTHS, **LAYERS, **SPECIAL, "num_key_value_heads": 1, "head_dim": 16, **options}
    return transformers.GemmaForCausalLM(transformers.GemmaConfig(**options))


def marian(**options):
    sides = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {"layers": 1, "attention_heads": 2, "ffn_dim": 48}.items()
    }
    config = transformers.MarianConfig(
        **{
            "vocab_size": V,
            "d_model": M,
            **sides,
            "max_position_embeddings": 64,
            "scale_embedding": True,
            "decoder_start_token_id": PADDING,
            "forced_eos_token_id": None,
            **SPECIAL,
            **options,
        }
    )
    model = transformers.MarianMTModel(config)
    model.final_logits_bias.normal_()
    return model


def bert(**options):
    return transformers.BertForMaskedLM(
        transformers.BertConfig(**{**WIDTHS, **LAYERS, **SPECIAL, **options})
    )


MODELS = {"gpt2": gpt2, "llama": llama, "gemma": gemma, "marian": marian, "bert": bert}
AUTO = {
    "gpt2": transformers.AutoModelForCausalLM,
    "llama": transformers.AutoModelForCausalLM,
    "gemma": transformers.AutoModelForCausalLM,
    "marian": transformers.AutoModelForSeq2SeqLM,
    "bert": transformers.AutoModelForMaskedLM,
}
CAUSAL = ("gpt2", "llama", "gemma")


def tokens(batch=2, time=7):
    return torch.randint(PADDING + 1, V, (batch, time))


def aligned(model):
    """Moves parameters out of the file that they are read from.

    Where they lie in it decides which matrix product is taken, and so the last bit.
    """
    for parameter in model.parameters():
        parameter.data = parameter.data.clone()
    return model


def logits(model, ids, **arguments):
    """Logits in evaluation mode; encoder-decoders read the same ids on both sides."""
    if model.config.is_encoder_decoder:
        arguments["decoder_input_ids"] = ids
    return model.eval()(ids, **arguments).logits
