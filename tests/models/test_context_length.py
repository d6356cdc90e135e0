"""Numbers of positions, under the names that configurations have for them."""

import pytest
import transformers as tf

from crosstok.models import max_positions, raise_max_positions


@pytest.mark.parametrize(
    ("config", "positions"),
    [
        (tf.LlamaConfig(max_position_embeddings=64), 64),
        (tf.GPT2Config(n_positions=64), 64),
        (tf.OpenAIGPTConfig(n_positions=64), 64),
        (tf.MptConfig(max_seq_len=64), 64),
        (tf.RwkvConfig(context_length=64), 64),
        (tf.BloomConfig(), None),
        (tf.MambaConfig(), None),
    ],
    ids=lambda value: getattr(value, "model_type", str(value)),
)
def test_positions_are_found(config, positions):
    assert max_positions(config) == positions


def test_positions_with_weights_or_a_fixed_bias_are_not_raised():
    with pytest.raises(ValueError, match=r"has 64 positions, and 65 are needed"):
        raise_max_positions(tf.MptConfig(max_seq_len=64), 65)
