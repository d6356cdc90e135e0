"""New embeddings for a target tokenizer, made from the source embeddings without training."""

from crosstok.choices import METHODS
from crosstok.models.ties import untie_embeddings
from crosstok.transplants.base import (
    MethodInputs,
    MethodNeeds,
    MethodRows,
    Resources,
    SourceMatrices,
    SourceRows,
    TransplantMethod,
)
from crosstok.transplants.fvt import source_pieces
from crosstok.transplants.methods import check_resources, find_method, make_method, split_options
from crosstok.transplants.plan import RowSource, TransplantPlan, plan_rows
from crosstok.transplants.transplant import TransplantReport, transplant

__all__ = [
    "METHODS",
    "MethodInputs",
    "MethodNeeds",
    "MethodRows",
    "Resources",
    "RowSource",
    "SourceMatrices",
    "SourceRows",
    "TransplantMethod",
    "TransplantPlan",
    "TransplantReport",
    "check_resources",
    "find_method",
    "make_method",
    "plan_rows",
    "source_pieces",
    "split_options",
    "transplant",
    "untie_embeddings",
]
