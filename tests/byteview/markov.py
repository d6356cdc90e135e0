"""Models whose next token depends on the last one alone, with probabilities written down."""

from __future__ import annotations

import numpy as np
import torch
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from tests.tiny_models import tiny_model


def letters(*pieces, merges=()):
    """A tokenizer of these pieces; <e> begins and ends a text."""
    vocab = {piece: index for index, piece in enumerate(("<e>", *pieces))}
    backend = Tokenizer(models.BPE(vocab=vocab, merges=list(merges)))
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<e>", eos_token="<e>")


def markov_model(rows):
    """A Llama whose probabilities behind token i are `rows[i]`."""
    size = len(rows)
    model = tiny_model("llama", size).double()
    width = model.config.hidden_size
    with torch.no_grad():
        for layer in model.model.layers:
            layer.self_attn.o_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
        model.model.norm.weight.fill_(1.0)
        directions = torch.eye(width, dtype=torch.float64)[:size]
        model.get_input_embeddings().weight.copy_(1e6 * directions)  # far above the norm's epsilon
        logits = torch.from_numpy(np.log(np.maximum(np.array(rows, dtype=np.float64), 1e-300)))
        model.get_output_embeddings().weight.copy_(logits.T @ directions / width**0.5)
    return model


def same_always(*row):
    """The probabilities do not depend on the last token."""
    return markov_model([row] * len(row))
