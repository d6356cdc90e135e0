"""New embeddings for a target tokenizer, made from the old ones without training."""

from crosstok.transplants.plan import RowSource, TransplantPlan, plan_rows
from crosstok.transplants.transplant import TransplantReport, transplant, untie_embeddings

__all__ = [
    "RowSource",
    "TransplantPlan",
    "TransplantReport",
    "plan_rows",
    "transplant",
    "untie_embeddings",
]
