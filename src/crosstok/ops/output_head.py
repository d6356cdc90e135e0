"""What stands between a model's last hidden state and its logits."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class OutputHead:
    """The output matrix of a language model and what the model does to its product.

    ``logits = scale * (hidden @ weight.T + bias)``, then, with a soft cap,
    ``logits = softcap * tanh(logits / softcap)`` (Gemma 2, arXiv 2408.00118, section 2).

    Attributes:
        weight: Output matrix [V D], V ids (padding rows included), D hidden width. It may be the
            very parameter of the input embedding (tied).
        bias: Bias [V], or None.
        scale: Factor of the product (Granite divides by ``logits_scaling``, Cohere multiplies).
        softcap: Bound on the absolute logit, or None.
    """

    weight: Float[Tensor, "V D"]
    bias: Float[Tensor, "V"] | None = None
    scale: float = 1.0
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.weight.ndim != 2:
            raise ValueError(f"weight has shape {tuple(self.weight.shape)}; it must be [V, D].")
        if self.bias is not None and self.bias.shape != self.weight.shape[:1]:
            raise ValueError(
                f"bias has shape {tuple(self.bias.shape)}, but the output matrix has "
                f"{self.weight.shape[0]} rows; pass one bias per row, or None."
            )
        if self.softcap is not None and not self.softcap > 0:
            raise ValueError(f"softcap is {self.softcap}; it must be positive, or None for no cap.")
