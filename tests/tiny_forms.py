"""A tiny random form of every causal architecture of the installed transformers, where it can be.

The configuration class gives the fields; those that are sizes are made small by their names.
"""

import re
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
)

EVERY_ARCHITECTURE = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_SIZES: dict[str, Any] = {
    "vocab_size": None,  # the one that is asked for
    "vocab_size_per_layer_input": None,
    "unpadded_vocab_size": None,
    **dict.fromkeys(
        ("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers"), 2
    ),
    **dict.fromkeys(("encoder_layers", "depth"), 2),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), 4),
    **dict.fromkeys(("decoder_attention_heads", "encoder_attention_heads"), 4),
    **dict.fromkeys(("num_key_value_heads", "multi_query_group_num", "num_kv_heads"), 2),
    **dict.fromkeys(("head_dim", "qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"), 8),
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embedding_size"), 32),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size"), 64),
    **dict.fromkeys(("decoder_ffn_dim", "encoder_ffn_dim", "d_inner", "d_ff"), 64),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **dict.fromkeys(("num_experts", "n_routed_experts", "num_local_experts"), 4),
    **dict.fromkeys(("moe_num_experts", "num_experts_per_tok", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_group", "topk_group", "num_expert_group"), 1),
    **dict.fromkeys(("q_lora_rank", "kv_lora_rank", "o_lora_rank"), 16),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "n_ctx"), 128),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(("hidden_size_per_layer_input", "rotary_dim", "time_step_rank"), 8),
    "moe_num_experts": 4,
    "initializer_range": 0.2,
}
_IDS = re.compile(r"(bos|eos|pad|sep|cls|mask|decoder_start|forced_bos|forced_eos)_token_id")
_PER_LAYER = re.compile(r"(layer_types|mlp_layer_types|.*_pattern_list|layers_block_type)")
_MAMBA2 = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_expand": 2}
_HEADS = {"head_dim": 8}
_LATENT = {"num_key_value_heads": 4, "qk_head_dim": 16}
# What a name does not say: fields that must fit one another.
_OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v3", "deepseek_v32"), _LATENT),
    **dict.fromkeys(("dots3_note_text", "glm4_moe_lite", "glm_moe_dsa"), _LATENT),
    "dots3_note": {"text_config": _LATENT, "num_key_value_heads": 4},
    **dict.fromkeys(("longcat_flash", "minicpm3", "sarvam_mla", "youtu"), _LATENT),
    **dict.fromkeys(("bamba", "granitemoehybrid"), _MAMBA2),
    **dict.fromkeys(("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral"), _HEADS),
    "nemotron": {**_HEADS, "num_key_value_heads": 2},
    "kimi_linear": {"num_experts": 4, "num_experts_per_token": 2, "num_expert_group": 1},
    "plbart": {"num_attention_heads": 4, "decoder_attention_heads": 4},
    "whisper": {"num_attention_heads": 4, "decoder_attention_heads": 4},
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    "gemma3n_text": {
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        "laurel_rank": 8,
        "intermediate_size": 64,
        "activation_sparsity_pattern": [0.0, 0.0],
    },
    "gpt_neo": {"attention_types": [[["global", "local"], 1]]},
    "mamba2": {"num_heads": 8, "head_dim": 8, "expand": 2, "n_groups": 1},
    "reformer": {
        "axial_pos_embds_dim": [16, 16],
        "axial_pos_shape": [8, 16],
        "attn_layers": ["local", "local"],
        "local_attn_chunk_length": 16,
    },
    "xlstm": {"qk_dim_factor": 0.5},
    "zamba": {"layer_types": ["hybrid", "hybrid"], "mamba_expand": 2},
    "zamba2": {"layer_types": ["mamba", "hybrid"], "hybrid_layer_ids": [1]},
    "cohere_compass_text": {
        "rope_parameters": {"full_attention": {"rope_type": "default", "rope_theta": 10_000.0}}
    },
    "dbrx": {"attn_config": {"kv_n_heads": 2, "rope_theta": 10_000.0, "clip_qkv": 8.0}},
    "zaya": {"num_experts_per_tok": 1},
    "xmod": {"languages": ["en_XX"], "default_language": "en_XX"},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "dots1": {
        "num_experts_per_tok": 2,
        "n_routed_experts": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
    },
}


def tiny_form(
    model_type: str, vocab_size: int, *, seed: int = 0, pad: int | None = 0, **overrides: Any
) -> Any:
    """A random fp32 model of this type, width 32, in evaluation mode.

    Raises:
        Exception: of whatever kind the architecture raises if it cannot be made like this.
    """
    config = tiny_config(model_type, vocab_size, **overrides)
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    model_class = model_class[0] if isinstance(model_class, tuple) else model_class
    if not isinstance(config, model_class.config_class):  # made from a part of it
        config = config.get_text_config(decoder=True)
    if getattr(config, "pad_token_id", None) is not None:
        config.pad_token_id = pad
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model: PreTrainedModel = model_class(config).float()
        _fill(model)
    return model.eval()


def tiny_config(model_type: str, vocab_size: int, **overrides: Any) -> Any:
    """The configuration of such a model."""
    return _small(CONFIG_MAPPING[model_type], vocab_size, {**_OWN.get(model_type, {}), **overrides})


def _small(config_class: Any, vocab_size: int, own: dict[str, Any]) -> Any:
    default = config_class()
    values: dict[str, Any] = {}
    parts = {
        name: _small(type(part), vocab_size, own.get(name, {})).to_dict()
        for name in getattr(config_class, "sub_configs", {})
        if (part := getattr(default, name, None)) is not None and hasattr(part, "to_dict")
    }
    for name, value in vars(default).items():
        field = config_class.attribute_map.get(name, name)
        if name == "decoder_vocab_size":
            continue
        if _IDS.fullmatch(name):
            values[name] = None if value is None or "forced" in name else 0
        elif name in _SIZES and isinstance(value, int | float) and not isinstance(value, bool):
            values[field] = vocab_size if _SIZES[name] is None else _SIZES[name]
    for name in ("is_decoder",):
        if hasattr(default, name) and not getattr(default, "is_encoder_decoder", False):
            values[name] = True
    values |= parts
    values |= {name: value for name, value in own.items() if name not in parts}
    return config_class(**values)


def _fill(model: Any) -> None:
    """Numbers of the size of a trained model's: a zero bias or table would hide a lost row."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim < 2 and "bias" in name:
                parameter.normal_(std=0.1)
        for buffer in model.buffers():
            if buffer.dtype == torch.long and len(buffer.shape) == 2 and 1 < buffer.shape[1] < 5:
                buffer[:, :2] = torch.rand(len(buffer), 4).argsort(1)[:, : buffer.shape[1]]
        for matrix in (model.get_input_embeddings(), model.get_output_embeddings()):
            if hasattr(matrix, "weight"):
                matrix.weight.normal_(std=0.5)
