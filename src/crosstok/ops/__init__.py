"""Tensor operations on hidden states, probabilities and chunks (torch only, no tokenizers)."""

from crosstok.ops.blockwise import blockwise_sum
from crosstok.ops.linear_logprobs import linear_logprobs
from crosstok.ops.output_head import OutputHead

__all__ = ["OutputHead", "blockwise_sum", "linear_logprobs"]
