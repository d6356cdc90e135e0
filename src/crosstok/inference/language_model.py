"""Models that answer, by name: one, its byte view, or several as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from crosstok.inference.byte_ensemble import ByteView
from crosstok.inference.byte_view import Target
from crosstok.inference.contract import (
    COMBINE,
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
)
from crosstok.inference.token_model import TokenModel
from crosstok.models import load_model
from crosstok.tokenizers import load_tokenizer

__all__ = [
    "COMBINE",
    "ContinuationScore",
    "LanguageModel",
    "Prompt",
    "Sampling",
    "load_language_model",
]


def load_language_model(  # noqa: PLR0913 (the options of the command line)
    models: Sequence[str],
    *,
    combine: str | None = None,
    bytes_view: bool = False,
    weights: Sequence[float] | None = None,
    alpha: float = 1.0,
    target: Target = "all",
    dtype: torch.dtype | str | None = None,
    device: torch.device | str | None = None,
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load one model, or several that answer as one.

    Args:
        models: Folders or names on the hub; or one file that defines an ensemble (.yaml).
        combine: One of `COMBINE`, for several models. For "mined" the first is the pivot, for
            "proxy" they are base, expert and anti-expert.
        bytes_view: Read a single model byte by byte.
        weights: Of the models; equal by default.
        alpha: Of "proxy".
        target: Which token sequences count where models are read byte by byte.
        dtype: Of the weights; as they are saved by default.
        device: Where to put the models.
        trust_remote_code: Whether Python code in the folders may be executed.

    Raises:
        ValueError: A name, a file or an option is wrong; says which.
    """
    if combine is None and len(models) == 1:
        [name] = models
        model = load_model(
            name, dtype=dtype or "auto", device=device, trust_remote_code=trust_remote_code
        )
        tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
        if not bytes_view:
            return TokenModel(model, tokenizer, name=name)
        return ByteView(model, tokenizer, name=name, target=target)
    raise NotImplementedError
