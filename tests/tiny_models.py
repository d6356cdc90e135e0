"""Tiny random causal language models of many architectures, for tests."""

from typing import Any

import torch
from transformers import (
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

_COMMON = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
_GROUPED = {**_COMMON, "num_key_value_heads": 2, "head_dim": 8}
_GPT2 = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 512,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}

# architecture -> (configuration class, model class, its small sizes)
_ARCHITECTURES: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, _GROUPED),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {**_GROUPED, "tie_word_embeddings": True}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, _GROUPED),
    "mistral": (MistralConfig, MistralForCausalLM, {**_GROUPED, "sliding_window": 16}),
    "gemma2": (
        Gemma2Config,
        Gemma2ForCausalLM,
        {**_GROUPED, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    "gemma3": (
        Gemma3TextConfig,
        Gemma3ForCausalLM,
        {**_GROUPED, "query_pre_attn_scalar": 8, "sliding_window": 16},
    ),
    "gpt2": (GPT2Config, GPT2LMHeadModel, _GPT2),
    "gpt_neox": (GPTNeoXConfig, GPTNeoXForCausalLM, _COMMON),
    "granite": (GraniteConfig, GraniteForCausalLM, {**_GROUPED, "logits_scaling": 4.0}),
    "cohere": (CohereConfig, CohereForCausalLM, {**_GROUPED, "logit_scale": 0.25}),
}
ARCHITECTURES = tuple(_ARCHITECTURES)
# Those that every job must serve.
CORE_ARCHITECTURES = (
    "llama",
    "qwen2",
    "qwen3",
    "mistral",
    "gemma2",
    "gemma3",
    "gpt2",
    "gpt_neox",
)


def tiny_model(
    architecture: str, vocab_size: int, *, seed: int = 0, **overrides: Any
) -> PreTrainedModel:
    """A random model (width 32, 2 layers) in evaluation mode; `overrides` change its configuration.

    The embeddings are drawn wider than usual, so that probabilities differ from uniform ones.
    """
    config_class, model_class, sizes = _ARCHITECTURES[architecture]
    config = config_class(**{**sizes, "vocab_size": vocab_size, **overrides})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = model_class(config)
        with torch.no_grad():
            for embeddings in (model.get_input_embeddings(), model.get_output_embeddings()):
                embeddings.weight.normal_(std=0.5)
    return model.eval()
