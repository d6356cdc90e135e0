"""What an option may be, where recipes and the packages that serve them must agree.

Imports nothing of crosstok and nothing heavy, so that the command line answers at once.
"""

from typing import Literal, TypeAlias

TextUnit: TypeAlias = Literal["line", "paragraph", "document"]
"""What one text of a ``.txt`` file is."""

LossOn: TypeAlias = Literal["all", "assistant", "last"]
"""Which part of a chat is learned."""

OBJECTIVES = {
    "alm": "crosstok.objectives.alm:ALM",
    "cross_entropy": "crosstok.objectives.cross_entropy:CrossEntropy",
    "dskd": "crosstok.objectives.dskd:DSKD",
    "gold": "crosstok.objectives.gold:GOLD",
    "hidden_states": "crosstok.objectives.hidden_states:HiddenStates",
    "mined": "crosstok.objectives.mined:MinED",
    "strict": "crosstok.objectives.strict:Strict",
    "uld": "crosstok.objectives.uld:ULD",
}
"""Objectives: name -> "module:Class", imported when asked for. A new one is one file and a row."""

METHODS = {
    "fvt": "crosstok.transplants.fvt:FVT",
    "mean": "crosstok.transplants.mean:Mean",
}
"""Transplant methods, by which tokens that the source vocabulary lacks get their embeddings."""

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""Arithmetic of the passes, or dtype of the weights."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""What torch calls them."""

Unit: TypeAlias = Literal["token", "byte"]
"""What a model answers in: bytes if it is read byte by byte, or if its tokens are bytes."""

Target: TypeAlias = Literal["all", "canonical", "canonical_renormalized"]
"""Which token sequences count for a text where a model is read byte by byte.

all: every one; the true probability of "sample tokens, decode".
canonical: those that the encoder would write; the mass of the others is lost.
canonical_renormalized: the same for a model that can write no others: at every step what the
    encoder would not write has probability 0 and the rest is scaled to 1.
"""

Combine: TypeAlias = Literal[
    "probs", "logprobs", "mined", "bytes-mixture", "bytes-bayes", "bytes-product", "proxy"
]
"""Ways to let several models answer as one, which `crosstok.inference.RULES` describes."""
