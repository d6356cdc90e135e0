"""Values of options on which recipes and the packages that carry them out must agree.

Imports nothing from crosstok and nothing large, so that the command line starts quickly.
"""

from typing import Literal, TypeAlias

TextUnit: TypeAlias = Literal["line", "paragraph", "document"]
"""The unit of a ``.txt`` file that becomes one text."""

LossOn: TypeAlias = Literal["all", "assistant", "last"]
"""The part of a chat that the loss covers."""

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
"""Objectives: name -> "module:Class", imported on first use. A new one is one file and one row."""

TEACHERS = {"model": "crosstok.teachers.local:LocalTeacher"}
"""Kinds of teachers: name -> "module:Class". A new one is one file and a row."""

METHODS = {
    "fvt": "crosstok.transplants.fvt:FVT",
    "mean": "crosstok.transplants.mean:Mean",
}
"""Transplant methods, which make embeddings for tokens that the source vocabulary lacks."""

Precision: TypeAlias = Literal["fp32", "bf16", "fp16"]
"""Precision of the forward and backward passes, or of the weights."""

DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""Precision -> name of the dtype in torch."""

Unit: TypeAlias = Literal["token", "byte"]
"""The unit that a model predicts: bytes if it is read byte by byte, or if its tokens are bytes."""

Target: TypeAlias = Literal["all", "canonical", "canonical_renormalized"]
"""The token sequences whose probability counts towards a text when a model is read byte by byte.

all: every sequence that decodes to the text; the probability that sampled tokens decode to it.
canonical: only sequences that the encoder would write; the probability of the others is lost.
canonical_renormalized: as canonical, but at every step tokens that the encoder would not write
    get probability 0 and the others are scaled to sum to 1.
"""

Combine: TypeAlias = Literal[
    "probs", "logprobs", "mined", "bytes-mixture", "bytes-bayes", "bytes-product", "proxy"
]
"""Rules that combine several models into one, described in `crosstok.inference.RULES`."""
