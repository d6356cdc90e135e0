"""New embeddings for a target tokenizer, made from the old ones without training."""

from crosstok.transplant.heuristics import Method
from crosstok.transplant.plan import RowSource, TransplantPlan, plan_rows
from crosstok.transplant.transplant import TransplantReport, transplant, untie_embeddings

__all__ = [
    "Method",
    "RowSource",
    "TransplantPlan",
    "TransplantReport",
    "plan_rows",
    "transplant",
    "untie_embeddings",
]
