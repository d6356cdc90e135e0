"""Load causal language models, find their output heads, and score texts without full logits."""

from crosstok.models.context_length import (
    max_positions,
    raise_max_positions,
    why_positions_are_fixed,
)
from crosstok.models.devices import default_device, find_device
from crosstok.models.expansion import (
    check_is_bytes,
    expand_inputs,
    subword_lookup,
)
from crosstok.models.extra_inputs import (
    ExtraInputs,
    describe_architecture,
    extra_inputs,
    needs_code,
    plain_model,
)
from crosstok.models.files import check_model_exists
from crosstok.models.forward import Scores, hidden_states, token_scores
from crosstok.models.head_probe import output_head, unwrap_model
from crosstok.models.loading import (
    check_vocabulary_fits,
    load_config,
    load_model,
    load_to_change,
    new_model,
)
from crosstok.models.modeling_byte_expanded import SubwordLookup
from crosstok.models.modes import evaluating
from crosstok.models.saved_dtypes import SavedDtypes
from crosstok.models.vocabulary import vocabulary_masks

__all__ = [
    "ExtraInputs",
    "SavedDtypes",
    "Scores",
    "SubwordLookup",
    "check_is_bytes",
    "check_model_exists",
    "check_vocabulary_fits",
    "default_device",
    "describe_architecture",
    "evaluating",
    "expand_inputs",
    "extra_inputs",
    "find_device",
    "hidden_states",
    "load_config",
    "load_model",
    "load_to_change",
    "max_positions",
    "needs_code",
    "new_model",
    "output_head",
    "plain_model",
    "raise_max_positions",
    "subword_lookup",
    "token_scores",
    "unwrap_model",
    "vocabulary_masks",
    "why_positions_are_fixed",
]
