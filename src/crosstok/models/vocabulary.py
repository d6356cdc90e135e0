"""Which rows of an output matrix are tokens, and which of these are in the boundary set."""

import torch
from jaxtyping import Bool
from torch import Tensor

from crosstok.ops import OutputHead
from crosstok.tokenizers import ByteVocab


def vocabulary_masks(
    byte_vocab: ByteVocab, head: OutputHead
) -> tuple[Bool[Tensor, " V"], Bool[Tensor, " V"] | None]:
    """Masks over the rows of an output matrix: the boundary set, and the real tokens.

    Padding rows and gaps in the ids are not outcomes: the softmax leaves them out.

    Args:
        byte_vocab: of the model's tokenizer.
        head: output head of the model; the masks are put on its device.

    Returns:
        The boundary set, and the tokens: None where every row is one.
    """
    rows, device = head.weight.shape[0], head.weight.device
    boundary = torch.from_numpy(byte_vocab.boundary_mask(rows)).to(device)
    valid = torch.from_numpy(byte_vocab.token_mask(rows))
    return boundary, None if bool(valid.all()) else valid.to(device)
