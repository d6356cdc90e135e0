"""Reports about pairs of tokenizers and about runs: numbers, advice, tables and pages."""

from crosstok.reports.advice import Advice, recommend
from crosstok.reports.chunk_view import ChunkCell, ChunkView, chunk_view
from crosstok.reports.curves import RunCurves, run_curves
from crosstok.reports.example_counts import (
    ExampleCounts,
    ExampleNumbers,
    VocabularyNumbers,
    compare_vocabularies,
    shared_teacher_ids,
)
from crosstok.reports.html import RunNumbers, examination_page, pair_page, run_page, write_page
from crosstok.reports.pair_counts import PairCounts, PairReport, compare_tokenizers
from crosstok.reports.red_flags import Flag, ModelNumbers, has_errors, red_flags
from crosstok.reports.render import outcome_table, pair_table, print_chunks
from crosstok.reports.render_examination import print_examination

__all__ = [
    "Advice",
    "ChunkCell",
    "ChunkView",
    "ExampleCounts",
    "ExampleNumbers",
    "Flag",
    "ModelNumbers",
    "PairCounts",
    "PairReport",
    "RunCurves",
    "RunNumbers",
    "VocabularyNumbers",
    "chunk_view",
    "compare_tokenizers",
    "compare_vocabularies",
    "examination_page",
    "has_errors",
    "outcome_table",
    "pair_page",
    "pair_table",
    "print_chunks",
    "print_examination",
    "recommend",
    "red_flags",
    "run_curves",
    "run_page",
    "shared_teacher_ids",
    "write_page",
]
