"""What a run reads, said before it starts: how much data, how often, where, and what is odd."""

import logging
import math
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

import datasets
import pyarrow.compute as pc  # type: ignore[import-untyped]

from crosstok.alignment import ENDS_OF_CHATS, ENDS_OF_TEXTS, align_batch
from crosstok.corpora.files import find_files
from crosstok.loaded import Loaded
from crosstok.recipes import TrainingRecipe
from crosstok.reports import ExampleCounts, ExampleNumbers
from crosstok.reports.red_flags import data_flags
from crosstok.tokenizers import Spans
from crosstok.training import DistillationTrainer, Sides
from crosstok.training.rows import encode_rows
from crosstok.training.training_rows import are_chats

MANY_PASSES = 16
"""Passes over the data beyond which repeating it was found to add little (arXiv 2305.16264,
section 6: the value of repeated data decays, by more than half after about 15 repetitions)."""

_CUT_WINDOWS = 0.1  # share of bytes lost
_SAMPLE = 64
_SHOWN_PIECES = 3

log = logging.getLogger("crosstok")


def say_what_is_read(recipe: TrainingRecipe, trainer: DistillationTrainer, sides: Sides) -> None:
    """Log what the run reads and where it runs, and warn of what is odd about its data.

    Args:
        recipe: of the run.
        trainer: before it trains.
        sides: encoders of the student and its teachers.
    """
    for line in describe_reading(recipe, trainer):
        log.info("%s", line)
    rows = trainer.train_dataset
    for warning in (*_repetitions(recipe, trainer), *warnings_of_rows(recipe, rows, sides)):
        log.warning("%s", warning)


def describe_reading(recipe: TrainingRecipe, trainer: DistillationTrainer) -> list[str]:
    """What is read, for how long, and where, in three lines.

    Args:
        recipe: of the run.
        trainer: before it trains.
    """
    rows, arguments = trainer.train_dataset, trainer.args
    unit = _unit(rows)
    length = f"of up to {recipe.student_max_length:,} tokens"
    sources = " and ".join(_source(source, recipe.split) for source in recipe.data)
    per_step = f"{_rows_of_step(trainer):,} {unit} each"
    if isinstance(rows, datasets.Dataset):
        total = f"{len(rows):,} {unit} {length}, {_size(_num_bytes(rows))}"
        steps, passes = _length(trainer)
        trained = f"{steps:,} steps of {per_step}: {passes:.3g} passes over the data"
    else:
        total = f"{unit} {length}, streamed: their number and bytes are not known before"
        trained = f"{recipe.max_steps:,} steps of {per_step}; passes over the data: not known"
    device = arguments.device
    processes = trainer.accelerator.num_processes
    return [
        f"reads     {sources}: {total}",
        f"trains    {trained}",
        f"runs on   {device}, {recipe.precision}, {processes} process{'es' * (processes > 1)}",
    ]


def warnings_of_rows(recipe: TrainingRecipe, rows: Any, sides: Sides) -> list[str]:
    """What `crosstok inspect` would warn of, on a sample of the rows.

    Args:
        recipe: of the run.
        rows: the data, for the collator.
        sides: encoders; of several teachers the first is looked at.
    """
    sample = _sample(rows)
    both = (sides.first_teacher, sides.student)
    teachers, students = encode_rows(sample, both, recipe.loss_on)
    numbers = _count(recipe, teachers, students, sides, are_chats=are_chats(rows))
    flags = [flag for flag in data_flags(numbers) if flag.level == "warning"]
    if "text" in sample[0]:  # windows are made to fit on average
        flags = [flag for flag in flags if flag.name != "cut"]
    found = [*_lossy(sample, students), *(flag.message for flag in flags)]
    if "text" in sample[0] and numbers.cut_share > _CUT_WINDOWS:
        found.append(
            f"{numbers.cut_share:.1%} of the bytes lie beyond max_length, in windows that have "
            "more tokens than others, and are lost. A larger max_length loses less."
        )
    return [f"data, {len(sample)} rows looked at: {text}" for text in found]


def _count(
    recipe: TrainingRecipe,
    teachers: Sequence[Spans],
    students: Sequence[Spans],
    sides: Sides,
    *,
    are_chats: bool,
) -> ExampleNumbers:
    vocabs = sides.first_teacher.encoder.byte_vocab, sides.student.encoder.byte_vocab
    ends = ENDS_OF_CHATS if are_chats else ENDS_OF_TEXTS
    lengths = recipe.student_max_length, recipe.teacher_max_length
    counts = ExampleCounts(*vocabs, *lengths, ends)
    for example in zip(teachers, students, align_batch(teachers, students, *vocabs), strict=True):
        counts.add(*example)
    return counts.numbers


def _lossy(sample: Sequence[Mapping[str, Any]], students: Sequence[Spans]) -> list[str]:
    """Text that the student's tokenizer cannot spell, if there is any."""
    total = lost = 0
    pieces: dict[str, None] = {}
    for row, spans in zip(sample, students, strict=True):
        covered = spans.ends - spans.starts
        total += int(covered.sum())
        lost += int(covered[~spans.exact].sum())
        text = row["text"].encode() if "text" in row else b""
        for place in (~spans.exact).nonzero()[0].tolist() if text else ():
            piece = text[spans.starts[place] : spans.ends[place]].decode(errors="ignore").strip()
            if piece and len(pieces) < _SHOWN_PIECES:
                pieces[piece] = None
    if not lost:
        return []
    such = f", such as {', '.join(map(repr, pieces))}" if pieces else ""
    return [
        f"the student's tokenizer does not spell {lost / max(1, total):.2%} of the bytes as they "
        f"are written{such}: the student reads something else there, and can never write them. "
        "Choose a tokenizer that spells every byte, if they matter."
    ]


def _repetitions(recipe: TrainingRecipe, trainer: DistillationTrainer) -> list[str]:
    """Data that is read many times, or that does not fill a step."""
    rows = trainer.train_dataset
    if not isinstance(rows, datasets.Dataset):
        return []
    unit, step = _unit(rows), _rows_of_step(trainer)
    found = []
    if len(rows) == 1:
        found.append(
            f"the data is a single {unit[:-1]}, which every step reads. Is a .txt file one text? "
            "text_unit says how it is divided."
        )
    elif len(rows) < step:
        found.append(
            f"the data has {len(rows):,} {unit}, fewer than the {step:,} of a step: a step reads "
            "them all, and there are no more. Lower batch_size, or give more data."
        )
    _, passes = _length(trainer)
    if passes > MANY_PASSES:
        found.append(
            f"the data is read {passes:,.0f} times. After about {MANY_PASSES} times more passes "
            "teach little: lower max_steps, or give more data."
        )
    return found


def _rows_of_step(trainer: DistillationTrainer) -> int:
    """Rows of an optimizer step, over all ranks."""
    arguments = trainer.args
    per_rank = arguments.per_device_train_batch_size * arguments.gradient_accumulation_steps
    return int(per_rank * trainer.accelerator.num_processes)


def _length(trainer: DistillationTrainer) -> tuple[int, float]:
    """Optimizer steps, and passes over the data."""
    rows: Any = trainer.train_dataset
    arguments, num_rows = trainer.args, len(rows)
    ranks = trainer.accelerator.num_processes
    batches = math.ceil(num_rows / (arguments.per_device_train_batch_size * ranks))
    in_pass = max(1, math.ceil(batches / arguments.gradient_accumulation_steps))
    if arguments.max_steps > 0:
        return arguments.max_steps, arguments.max_steps / in_pass
    return math.ceil(arguments.num_train_epochs * in_pass), arguments.num_train_epochs


def _sample(rows: Any) -> list[dict[str, Any]]:
    if not isinstance(rows, datasets.Dataset):
        return list(islice(rows, _SAMPLE))
    number = min(_SAMPLE, len(rows))
    return [rows[i * len(rows) // number] for i in range(number)]


def _num_bytes(rows: datasets.Dataset) -> int:
    """Bytes of the texts, or of the chats with their field names."""
    column = "text" if "text" in rows.column_names else "example"
    batches = rows.select_columns([column]).with_format("arrow").iter(1000)
    return sum(pc.sum(pc.binary_length(batch[column])).as_py() or 0 for batch in batches)


def _unit(rows: Any) -> str:
    return "examples" if "example" in (rows.column_names or ()) else "windows"


def _source(source: str, split: str) -> str:
    if isinstance(source, Loaded):
        return "data in memory"
    named = find_files(source, split)
    if named is None:
        return f"{source} of the hub, split {split}"
    number = len(named[1])
    return source if number == 1 else f"{source} ({number:,} files)"


def _size(num_bytes: int) -> str:
    size, units = float(num_bytes), ["bytes", "kB", "MB", "GB", "TB"]
    while size >= 1000 and len(units) > 1:
        size /= 1000
        units.pop(0)
    return f"{num_bytes:,} bytes" if units[0] == "bytes" else f"{size:.3g} {units[0]}"
