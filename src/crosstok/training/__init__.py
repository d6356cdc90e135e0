"""Training a student against a teacher, on transformers' Trainer."""

from crosstok.training.chunk_gaps import chunk_gaps, chunk_views, telling_rows
from crosstok.training.collator import AlignedCollator, batch_of
from crosstok.training.cross_tokenizer_trainer import CrossTokenizerTrainer
from crosstok.training.distillation_collator import DistillationCollator
from crosstok.training.distillation_loss import DistillationLoss, alm_loss
from crosstok.training.divergence import DivergedError
from crosstok.training.rows import chat_rows
from crosstok.training.sides import Sides
from crosstok.training.step_cost import StepCost, step_cost
from crosstok.training.student import (
    Lora,
    OriginalEmbeddings,
    Student,
    add_lora,
    compute_dtype,
    dtype_name,
)
from crosstok.training.trainer import DistillationTrainer, NonFiniteLossError
from crosstok.training.windows import text_windows, window_length

__all__ = [
    "AlignedCollator",
    "CrossTokenizerTrainer",
    "DistillationCollator",
    "DistillationLoss",
    "DistillationTrainer",
    "DivergedError",
    "Lora",
    "NonFiniteLossError",
    "OriginalEmbeddings",
    "Sides",
    "StepCost",
    "Student",
    "add_lora",
    "alm_loss",
    "batch_of",
    "chat_rows",
    "chunk_gaps",
    "chunk_views",
    "compute_dtype",
    "dtype_name",
    "step_cost",
    "telling_rows",
    "text_windows",
    "window_length",
]
