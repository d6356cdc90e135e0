"""Causal language models as crosstok uses them: loaded, probed, and read without their logits."""

from crosstok.models.context_length import (
    max_positions,
    raise_max_positions,
    why_positions_are_fixed,
)
from crosstok.models.devices import default_device
from crosstok.models.expansion import (
    check_is_bytes,
    describe_expansion,
    expand_inputs,
    find_lookup,
    subword_lookup,
)
from crosstok.models.forward import Scores, hidden_states, token_scores
from crosstok.models.head_probe import output_head, unwrap_model
from crosstok.models.loading import (
    check_model_exists,
    check_vocabulary_fits,
    load_config,
    load_model,
    new_model,
)
from crosstok.models.modeling_byte_expanded import SubwordLookup
from crosstok.models.modes import evaluating

__all__ = [
    "Scores",
    "SubwordLookup",
    "check_is_bytes",
    "check_model_exists",
    "check_vocabulary_fits",
    "default_device",
    "describe_expansion",
    "evaluating",
    "expand_inputs",
    "find_lookup",
    "hidden_states",
    "load_config",
    "load_model",
    "max_positions",
    "new_model",
    "output_head",
    "raise_max_positions",
    "subword_lookup",
    "token_scores",
    "unwrap_model",
    "why_positions_are_fixed",
]
