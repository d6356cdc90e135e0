"""Models that answer: one, one read byte by byte, or several as one."""

from crosstok.inference.byte_ensemble import ByteEnsemble, ByteView
from crosstok.inference.byte_member import ByteMember
from crosstok.inference.ensemble import is_ensemble_file
from crosstok.inference.language_model import (
    COMBINE,
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
)
from crosstok.inference.loading import load_language_model
from crosstok.inference.mined_ensemble import MinedEnsemble
from crosstok.inference.scoring import Scorer
from crosstok.inference.token_ensemble import TokenEnsemble
from crosstok.inference.token_model import TokenModel

__all__ = [
    "COMBINE",
    "ByteEnsemble",
    "ByteMember",
    "ByteView",
    "ContinuationScore",
    "LanguageModel",
    "MinedEnsemble",
    "Prompt",
    "Sampling",
    "Scorer",
    "TokenEnsemble",
    "TokenModel",
    "is_ensemble_file",
    "load_language_model",
]
