"""Language models that generate and score text: one, its byte view, or several as one.

Names are imported when first used, so that `Ensemble` and `Sampling` check their values without
loading torch.
"""

from typing import TYPE_CHECKING

from crosstok.lazy import import_on_demand

if TYPE_CHECKING:
    from crosstok.inference.byte_ensemble import ByteEnsemble, ByteView
    from crosstok.inference.byte_member import ByteMember
    from crosstok.inference.ensemble import RULES, Ensemble, Member, is_ensemble_file
    from crosstok.inference.generation import Decoder, OneByOne, Steps
    from crosstok.inference.language_model import (
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

_HOMES = {
    "ByteEnsemble": "byte_ensemble",
    "ByteMember": "byte_member",
    "ByteView": "byte_ensemble",
    "ContinuationScore": "language_model",
    "Decoder": "generation",
    "Ensemble": "ensemble",
    "LanguageModel": "language_model",
    "Member": "ensemble",
    "MinedEnsemble": "mined_ensemble",
    "OneByOne": "generation",
    "Prompt": "language_model",
    "RULES": "ensemble",
    "Sampling": "language_model",
    "Scorer": "scoring",
    "Steps": "generation",
    "TokenEnsemble": "token_ensemble",
    "TokenModel": "token_model",
    "is_ensemble_file": "ensemble",
    "load_language_model": "loading",
}

__all__ = [
    "RULES",
    "ByteEnsemble",
    "ByteMember",
    "ByteView",
    "ContinuationScore",
    "Decoder",
    "Ensemble",
    "LanguageModel",
    "Member",
    "MinedEnsemble",
    "OneByOne",
    "Prompt",
    "Sampling",
    "Scorer",
    "Steps",
    "TokenEnsemble",
    "TokenModel",
    "is_ensemble_file",
    "load_language_model",
]

__getattr__, __dir__ = import_on_demand(globals(), _HOMES)
