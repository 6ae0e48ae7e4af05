"""Tiny models of transformers with random weights, of any of its types that reads text."""

import torch
import transformers
from transformers import CONFIG_MAPPING, PreTrainedConfig, PreTrainedModel
from transformers.models.auto import modeling_auto

V = 100
_WIDTH = 32
# Values of settings by their names, which most configurations share.
_VALUES = {
    _WIDTH: "hidden_size d_model n_embd dim emb_dim embed_dim model_dim embedding_size d_embed "
    "n_embed word_embed_proj_dim decoder_hidden_size projection_dim text_hidden_size "
    "lm_hidden_size out_hidden_size output_hidden_size pooler_hidden_size encoder_hidden_size "
    "true_hidden_size intra_bottleneck_size mamba_d_ssm lru_width linear_attn_hidden_size "
    "rotary_value_dim",
    48: "intermediate_size ffn_dim d_ff n_inner encoder_ffn_dim decoder_ffn_dim ffn_hidden_size "
    "hidden_dim dff encoder_intermediate_size decoder_intermediate_size mlp_dim d_inner "
    "dense_intermediate_size intermediate_size_mlp shared_intermediate_size",
    16: "head_dim d_kv attention_head_size d_head v_head_dim qk_head_dim moe_intermediate_size "
    "shared_expert_intermediate_size moe_shared_expert_intermediate_size expert_ffn_hidden_size "
    "q_lora_rank kv_lora_rank mamba_d_head mamba_head_dim attention_head_dim kv_channels "
    "global_head_dim swa_head_dim index_head_dim linear_key_head_dim linear_value_head_dim "
    "mamba_d_state ssm_state_size",
    8: "qk_rope_head_dim qk_nope_head_dim hidden_size_per_layer_input sliding_window "
    "attention_window block_size image_size num_mel_bins max_source_positions rotary_dim "
    "chunk_size mamba_chunk_size num_buckets local_attn_chunk_length lsh_attn_chunk_length "
    "laurel_rank num_queries index_topk char_vocab_size",
    4: "patch_size state_size time_step_rank num_experts num_local_experts n_routed_experts "
    "moe_num_experts n_groups mamba_n_heads mamba_num_heads num_pathways linear_num_value_heads",
    2: "num_hidden_layers n_layer n_layers num_layers encoder_layers decoder_layers num_blocks "
    "num_decoder_layers num_encoder_layers num_attention_heads n_head n_heads num_heads "
    "encoder_attention_heads decoder_attention_heads num_encoder_attention_heads "
    "num_decoder_attention_heads num_experts_per_tok moe_topk moe_k linear_num_key_heads "
    "depth num_experts_per_token index_n_heads num_hidden_groups",
    1: "num_key_value_heads n_shared_experts n_group topk_group mamba_ngroups mamba_n_groups "
    "multi_query_group_num num_kv_heads",
    64: "max_position_embeddings n_positions n_ctx max_seq_len max_target_positions context_length "
    "max_sequence_length seq_length",
    V: "vocab_size src_vocab_size decoder_vocab_size vocab_size_per_layer_input text_vocab_size "
    "entity_vocab_size tgt_vocab_size",
}
SMALL = {name: value for value, names in _VALUES.items() for name in names.split()}
SPECIAL = {"pad_token_id": 3, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
# What a type needs beside that.
OPTIONS = {
    "t5": {"decoder_start_token_id": 3},
    "bart": {"forced_eos_token_id": None},
    "mbart": {"forced_eos_token_id": None},
    "marian": {"forced_eos_token_id": None, "scale_embedding": True},
    "m2m_100": {"scale_embedding": True},
    "pegasus": {"scale_embedding": True},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"],
        "num_kv_shared_layers": 0,
        "activation_sparsity_pattern": [0.0, 0.0],
        "intermediate_size": [48, 48],
    },
    "diffllama": {"num_key_value_heads": 2},
    "esm": {"vocab_size": V, "mask_token_id": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "phi3": {"eos_token_id": 3},  # its padding ends texts too, as published
    "whisper": {"suppress_tokens": None, "begin_suppress_tokens": None},
    "reformer": {"axial_pos_embds": False, "is_decoder": False, "attn_layers": ["local"] * 2},
    "electra": {"embedding_size": 16},
    "mobilebert": {"embedding_size": 16},
    "albert": {"embedding_size": 16},
    "opt": {"word_embed_proj_dim": 16},
}
CLASSES = (
    "AutoModelForSeq2SeqLM",
    "AutoModelForSpeechSeq2Seq",
    "AutoModelForImageTextToText",
    "AutoModelForMaskedLM",
    "AutoModelForCausalLM",
    "AutoModelForMultimodalLM",
    "AutoModelForPreTraining",
    "AutoModel",
)


def small_options(config: PreTrainedConfig) -> dict:
    """Small values for all settings of a configuration that have a known name."""
    options = {}
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            options[name] = small_options(value)
        elif name in SMALL and isinstance(value, int) and not isinstance(value, bool):
            options[name] = min(SMALL[name], value) if value > 0 else value
        elif name in SMALL and name in SPECIAL:
            options[name] = SPECIAL[name]
        elif name == "layer_types" and isinstance(value, list):
            options[name] = [value[0], value[-1]]
        elif name.endswith(("_token_id", "_token_index")) and isinstance(value, int):
            options[name] = SPECIAL.get(name, min(value, 90))
    options |= {k: v for k, v in SPECIAL.items() if hasattr(config, k) and "vocab_size" in options}
    return options | OPTIONS.get(config.model_type, {})


def tiny_config(model_type: str, **options) -> PreTrainedConfig:
    cls = CONFIG_MAPPING[model_type]
    return cls(**{**small_options(cls()), **options})


def auto_class(model_type: str):
    """The first auto class that makes a model of a type: with a head, if there is one."""
    cls = CONFIG_MAPPING[model_type]
    for name in CLASSES:
        mapping = getattr(modeling_auto, name)._model_mapping
        if cls in mapping:
            found = mapping[cls]
            found = found[0] if isinstance(found, tuple | list) else found
            if found.config_class is cls:
                return getattr(transformers, name), found
    return None, None


def tiny_model(model_type: str, **options) -> PreTrainedModel:
    """A model with a head, if its type has one, and a table that is not what it was drawn as."""
    _, cls = auto_class(model_type)
    if cls is None:
        raise LookupError(f"no auto class makes a {model_type}")
    torch.manual_seed(0)
    model = cls._from_config(tiny_config(model_type, **options)).eval()
    for parameter in model.parameters():
        if parameter.dim() == 1:  # biases and norms are drawn as zeros and ones
            torch.nn.init.normal_(parameter, parameter.detach().float().mean().item(), 0.1)
    return model
