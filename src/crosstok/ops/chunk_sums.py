"""Sum values of tokens into values of chunks, without a [tokens, chunks] matrix."""

import torch
from jaxtyping import Float, Int
from torch import Tensor


def chunk_sums(
    values: Float[Tensor, "B T"], chunk_ids: Int[Tensor, "B T"], num_chunks: int
) -> Float[Tensor, "B C"]:
    """Sum the values of each chunk's tokens; tokens with chunk id -1 are in no sum.

    Example: values [[1, 2, 3]] with chunk ids [[0, 0, -1]] and two chunks give [[3, 0]].
    """
    sums = values.new_zeros(values.shape[0], num_chunks + 1)  # the last column takes the -1s
    columns = torch.where(chunk_ids < 0, num_chunks, chunk_ids)
    return sums.scatter_add(1, columns, values)[:, :num_chunks]


def last_tokens(chunk_ids: Int[Tensor, "B T"], num_chunks: int) -> Int[Tensor, "B C"]:
    """Return the index of each chunk's last token; 0 for a chunk without tokens."""
    index = torch.arange(chunk_ids.shape[1], device=chunk_ids.device).expand_as(chunk_ids)
    columns = torch.where(chunk_ids < 0, num_chunks, chunk_ids)
    last = torch.zeros(
        chunk_ids.shape[0], num_chunks + 1, dtype=index.dtype, device=chunk_ids.device
    )
    return last.scatter_reduce(1, columns, index, reduce="amax")[:, :num_chunks]
