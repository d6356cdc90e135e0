"""Causal language models as crosstok uses them: loaded, probed, and read without their logits."""

from crosstok.models.forward import Scores, hidden_states, token_scores
from crosstok.models.loading import (
    check_model_exists,
    check_vocabulary_fits,
    load_model,
    new_model,
)
from crosstok.models.output_head import output_head, unwrap_model

__all__ = [
    "Scores",
    "check_model_exists",
    "check_vocabulary_fits",
    "hidden_states",
    "load_model",
    "new_model",
    "output_head",
    "token_scores",
    "unwrap_model",
]
