"""The step from a model's last hidden state to its logits."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class OutputHead:
    """The output matrix of a language model, with the scale and soft cap of its logits.

    ``logits = scale * (hidden @ weight.T + bias)``, then, with a soft cap,
    ``logits = softcap * tanh(logits / softcap)`` (Gemma 2, arXiv 2408.00118, section 2).

    Attributes:
        weight: output matrix [V D], V ids (padding rows included), D hidden width. It may be the
            same parameter as the input embedding (tied).
        bias: bias [V], or None.
        scale: factor of the product (Granite divides by ``logits_scaling``, Cohere multiplies).
        softcap: bound on the absolute logit, or None.
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

    def logits(
        self, hidden: Float[Tensor, "N D"], valid_ids: Bool[Tensor, "V"] | None = None
    ) -> Float[Tensor, "N V"]:
        """Compute the logits of a block of rows in fp32 (fp64 for fp64 operands).

        Meant for blocks: the logits of all rows may not fit in memory.

        Args:
            hidden: input of the output matrix.
            valid_ids: false for rows of the output matrix that are not tokens; their logit is -inf.
        """
        dtype = torch.promote_types(hidden.dtype, self.weight.dtype)
        logits = hidden.to(dtype) @ self.weight.to(dtype).T
        logits = logits.to(torch.promote_types(dtype, torch.float32))
        if self.bias is not None:
            logits = logits + self.bias.to(logits.dtype)
        logits = self.scaled(logits)
        return logits if valid_ids is None else logits.masked_fill(~valid_ids, -torch.inf)

    def logits_at(
        self, hidden: Float[Tensor, "N D"], ids: Int[Tensor, "N K"]
    ) -> Float[Tensor, "N K"]:
        """Compute the logits of K ids chosen for each row, in fp32 (fp64 for fp64 operands).

        The cost, also of the backward pass, grows with K, not with V; it makes a tensor [N K D].
        """
        dtype = torch.promote_types(hidden.dtype, self.weight.dtype)
        dtype = torch.promote_types(dtype, torch.float32)
        logits = (self.weight[ids].to(dtype) @ hidden.to(dtype)[:, :, None]).squeeze(2)
        if self.bias is not None:
            logits = logits + self.bias[ids].to(dtype)
        return self.scaled(logits.to(dtype))

    def scaled(self, logits: Tensor) -> Tensor:
        """Apply scale and soft cap to products of hidden states and matrix, bias included."""
        if self.scale != 1.0:
            logits = logits * self.scale
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def tempered(self, temperature: float) -> "OutputHead":
        """Return the head whose logits are the logits of this one divided by the temperature."""
        softcap = None if self.softcap is None else self.softcap / temperature
        return OutputHead(self.weight, self.bias, self.scale / temperature, softcap)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return the tensors that may receive gradients: the weight, and the bias if any."""
        return (self.weight,) if self.bias is None else (self.weight, self.bias)

    def of(self, weight: Tensor, bias: Tensor | None = None) -> "OutputHead":
        """Return the same head with other tensors, such as detached ones or some of the rows."""
        return OutputHead(weight, bias, self.scale, self.softcap)

    def rows(self, ids: Int[Tensor, " n"]) -> "OutputHead":
        """Return the head of these ids only; gradients flow back into the whole matrix."""
        return self.of(self.weight[ids], None if self.bias is None else self.bias[ids])
