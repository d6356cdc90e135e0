"""Models that answer."""

from crosstok.inference.generate import generate
from crosstok.inference.next_byte import (
    EXACT,
    STOP,
    ByteModel,
    ByteScore,
    ByteStream,
    Pruning,
    Target,
)

__all__ = [
    "EXACT",
    "STOP",
    "ByteModel",
    "ByteScore",
    "ByteStream",
    "Pruning",
    "Target",
    "generate",
]
