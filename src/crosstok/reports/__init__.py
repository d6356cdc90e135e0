"""Numbers about pairs of tokenizers, what they advise, and their pictures."""

from crosstok.reports.advice import Advice, recommend
from crosstok.reports.compare import PairCounts, PairReport, compare_tokenizers
from crosstok.reports.examples import (
    ExampleCounts,
    ExampleNumbers,
    VocabularyNumbers,
    compare_vocabularies,
    shared_teacher_ids,
)
from crosstok.reports.red_flags import Flag, ModelNumbers, has_errors, red_flags
from crosstok.reports.render import outcome_table, pair_table, print_chunks
from crosstok.reports.render_examination import print_examination

__all__ = [
    "Advice",
    "ExampleCounts",
    "ExampleNumbers",
    "Flag",
    "ModelNumbers",
    "PairCounts",
    "PairReport",
    "VocabularyNumbers",
    "compare_tokenizers",
    "compare_vocabularies",
    "has_errors",
    "outcome_table",
    "pair_table",
    "print_chunks",
    "print_examination",
    "recommend",
    "red_flags",
    "shared_teacher_ids",
]
