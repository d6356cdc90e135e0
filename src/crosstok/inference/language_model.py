"""Models that answer, by name: one, its byte view, or several as one."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from crosstok.inference.byte_view import Target
from crosstok.inference.contract import (
    COMBINE,
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
)

__all__ = [
    "COMBINE",
    "ContinuationScore",
    "LanguageModel",
    "Prompt",
    "Sampling",
    "load_language_model",
]


def load_language_model(
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
    raise NotImplementedError
