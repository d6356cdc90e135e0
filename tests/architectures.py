"""Tiny random models of the causal architectures of transformers, built from small sizes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM, PreTrainedModel
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

CAUSAL = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)

_SMALL: dict[str, Any] = {
    "hidden_size": 32, "d_model": 32, "n_embd": 32, "embedding_size": 32, "lru_width": 32,
    "intermediate_size": 64, "ffn_dim": 64, "d_ff": 64, "n_inner": 64, "dff": 64, "d_inner": 64,
    "num_hidden_layers": 2, "n_layer": 2, "n_layers": 2, "num_layers": 2, "decoder_layers": 2,
    "encoder_layers": 1, "num_attention_heads": 4, "n_head": 4, "n_heads": 4, "num_heads": 4,
    "decoder_attention_heads": 4, "encoder_attention_heads": 4, "num_key_value_heads": 2,
    "head_dim": 8, "max_position_embeddings": 64, "n_positions": 64, "max_seq_len": 64,
    "context_length": 64, "rotary_dim": 4, "state_size": 8, "mamba_d_state": 8,
    "num_experts": 4, "num_local_experts": 4, "n_routed_experts": 4, "num_experts_per_tok": 2,
    "moe_intermediate_size": 16, "shared_expert_intermediate_size": 16, "attention_hidden_size": 32,
    "decoder_ffn_dim": 64, "encoder_ffn_dim": 64, "n_groups": 1, "mamba_n_groups": 1,
}  # fmt: skip
# Where sizes depend on each other, or a small model needs both kinds of layers.
_OWN: dict[str, dict[str, Any]] = {
    "mamba2": {"num_heads": 8, "head_dim": 8},
    "xlstm": {"hidden_size": 64},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "jamba": {"num_hidden_layers": 4, "attn_layer_period": 2, "attn_layer_offset": 1,
              "use_mamba_kernels": False},
    "bamba": {"mamba_n_heads": 8, "mamba_d_head": 8, "attn_layer_indices": [1]},
    "granitemoehybrid": {"mamba_n_heads": 8, "mamba_d_head": 8, "layer_types": ["mamba",
                         "attention"], "shared_intermediate_size": 64},
    "falcon_h1": {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_ssm": 64},
    "zamba": {"num_hidden_layers": 6, "attn_layer_period": 3, "attn_layer_offset": 2,
              "n_mamba_heads": 2, "attention_head_dim": 16, "mamba_d_conv": 4,
              "use_mamba_kernels": False},
    "zamba2": {"num_hidden_layers": 4, "n_mamba_heads": 8, "mamba_headdim": 8,
               "mamba_ngroups": 1, "attention_head_dim": 16, "hybrid_layer_ids": [1, 3],
               "use_mem_rope": False},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "qwen3_next": {"layer_types": ["linear_attention", "full_attention"],
                   "linear_num_value_heads": 2, "linear_num_key_heads": 2,
                   "linear_key_head_dim": 8, "linear_value_head_dim": 8},
    "nemotron_h": {"mamba_num_heads": 8, "mamba_head_dim": 8, "layers_block_type":
                   ["mamba", "attention"]},
    "reformer": {"axial_pos_embds": False},
}  # fmt: skip


def build(model_type: str, vocab_size: int, *, seed: int = 0) -> PreTrainedModel:
    """A tiny random model in evaluation mode; whatever its configuration raises, if none fits."""
    config_class = CONFIG_MAPPING[model_type]
    known = set(vars(config_class())) | set(getattr(config_class, "attribute_map", {}))
    sizes = {name: value for name, value in _SMALL.items() if name in known}
    ids = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    config = config_class(**{**sizes, **_OWN.get(model_type, {}), "vocab_size": vocab_size, **ids})
    config.is_decoder = True
    with torch.device("meta"):
        shape = AutoModelForCausalLM.from_config(config)
    size = sum(parameter.numel() for parameter in shape.parameters())
    if size > 3_000_000:
        raise ValueError(f"{model_type} has {size:,} numbers: no small form is known.")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim >= 2:
                    parameter.normal_(std=0.3)
    return model.eval()  # type: ignore[no-any-return]
