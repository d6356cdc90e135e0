"""Models that answer: one, one read byte by byte, or several as one."""

from crosstok.inference.byte_ensemble import ByteEnsemble, ByteRule, ByteView
from crosstok.inference.byte_members import ByteMember
from crosstok.inference.contract import (
    COMBINE,
    ContinuationScore,
    LanguageModel,
    Prompt,
    Sampling,
)
from crosstok.inference.ensemble_file import is_ensemble_file
from crosstok.inference.language_model import load_language_model
from crosstok.inference.mined_ensemble import MinedEnsemble
from crosstok.inference.next_byte import (
    EXACT,
    STOP,
    ByteModel,
    ByteScore,
    ByteStream,
    Pruning,
    Target,
)
from crosstok.inference.scoring import Scorer
from crosstok.inference.token_ensemble import TokenEnsemble
from crosstok.inference.token_model import TokenModel

__all__ = [
    "COMBINE",
    "EXACT",
    "STOP",
    "ByteEnsemble",
    "ByteMember",
    "ByteModel",
    "ByteRule",
    "ByteScore",
    "ByteStream",
    "ByteView",
    "ContinuationScore",
    "LanguageModel",
    "MinedEnsemble",
    "Prompt",
    "Pruning",
    "Sampling",
    "Scorer",
    "Target",
    "TokenEnsemble",
    "TokenModel",
    "is_ensemble_file",
    "load_language_model",
]
