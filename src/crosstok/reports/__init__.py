"""Numbers about pairs of tokenizers, and their pictures."""

from crosstok.reports.compare import PairCounts, PairReport, compare_tokenizers
from crosstok.reports.render import outcome_table, pair_table, print_chunks

__all__ = [
    "PairCounts",
    "PairReport",
    "compare_tokenizers",
    "outcome_table",
    "pair_table",
    "print_chunks",
]
