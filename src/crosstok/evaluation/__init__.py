"""Evaluate models in units that do not depend on the tokenizer: bytes, and answers in text."""

from crosstok.evaluation.bits_per_byte import BitsPerByte, bits_per_byte
from crosstok.evaluation.compare import EvaluationError, evaluate
from crosstok.evaluation.exams import ExamResult, Item, read_exam, take_exam
from crosstok.evaluation.fidelity import Fidelity, fidelity
from crosstok.evaluation.options import EvaluationOptions
from crosstok.evaluation.table import render_table
from crosstok.inference.scoring import Scorer

__all__ = [
    "BitsPerByte",
    "EvaluationError",
    "EvaluationOptions",
    "ExamResult",
    "Fidelity",
    "Item",
    "Scorer",
    "bits_per_byte",
    "evaluate",
    "fidelity",
    "read_exam",
    "render_table",
    "take_exam",
]
