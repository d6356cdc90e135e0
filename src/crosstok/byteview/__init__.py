"""Any subword model, read byte by byte: exact next-byte probabilities without training."""

from crosstok.byteview.graph import ByteScore
from crosstok.byteview.model import STOP, ByteModel
from crosstok.byteview.reader import EXACT, NoRoomError, Pruning
from crosstok.byteview.stream import ByteStream

__all__ = [
    "EXACT",
    "STOP",
    "ByteModel",
    "ByteScore",
    "ByteStream",
    "NoRoomError",
    "Pruning",
]
