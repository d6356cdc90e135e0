"""Teach a student from teachers that have other tokenizers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, set_seed

from crosstok.chats import ExampleEncoder
from crosstok.jobs.held_out import HeldOut, held_out_texts
from crosstok.jobs.objectives import choose_objectives, need_teacher
from crosstok.jobs.report import watch_run
from crosstok.jobs.result import TrainedResult
from crosstok.jobs.run import (
    build_trainer,
    check_request,
    examples_of,
    load_side,
    on_first_rank,
    resume_point,
    rows_of,
    start_output,
    stop_at_end_of_turn,
    training_device,
)
from crosstok.jobs.teachers import open_teachers
from crosstok.models import check_vocabulary_fits, load_model, new_model
from crosstok.objectives import Objective
from crosstok.recipes import DistilRecipe, recipe_yaml, takes
from crosstok.teachers import Teacher, TeacherName
from crosstok.tokenizers import TextEncoder
from crosstok.training import Lora, Student, add_lora
from crosstok.training.outputs import RECIPE, model_card, save_outputs, to_json

log = logging.getLogger("crosstok")


@dataclass(frozen=True, kw_only=True, repr=False)
class DistilResult(TrainedResult):
    """What a distillation leaves."""


@takes(DistilRecipe)
def distil(recipe: DistilRecipe, objectives: Sequence[Objective] | None = None) -> DistilResult:
    """Train the student on what its teachers say of the same texts, and save it.

    Args:
        recipe: of the run.
        objectives: instances to train by, which win over the recipe's `objective` and `options`.
            The saved recipe and the card then name their classes (`alm`, `my_losses:MyLoss`) and
            the values of their fields.

    Raises:
        ValueError: something in the recipe cannot be used; nothing was written.
        NonFiniteLossError: the loss became NaN; the last checkpoint stands.
        SaveError: the disk is full; the last checkpoint stands.
    """
    recipe, objectives = choose_objectives(recipe, objectives)
    check_request(recipe, [recipe.student], objectives)
    if recipe.teacher_cache is None:  # a stored teacher needs no model, only its tokenizer
        for name in recipe.teacher:
            TeacherName.parse(name).check()
    set_seed(recipe.seed)
    own, others = load_encoders(recipe)
    texts = held_out_texts(recipe)
    rows = rows_of(examples_of(recipe), recipe, own, others)
    student, saved_dtype = build_student(recipe, own.encoder)
    teachers = build_teachers(recipe, others) if need_teacher(objectives) else no_teachers(recipe)
    warn_if_swapped(student.model, teachers)
    held_out = HeldOut(recipe, student, texts)
    trainer = build_trainer(recipe, student, teachers, (own, others), rows, objectives)
    held_out.watch(trainer)
    start_output(recipe, trainer)
    page = watch_run(recipe, trainer, (own, others))
    metrics = trainer.train_to_end(resume_point(recipe))
    result = DistilResult(folder=Path(recipe.output), metrics=metrics)
    summary = describe_run(recipe, is_taught=bool(teachers))
    on_first_rank(lambda: save_student(recipe, student, result, saved_dtype, rows, summary))
    on_first_rank(lambda: page.write(summary, metrics, {}))
    return result


def load_encoders(recipe: DistilRecipe) -> tuple[ExampleEncoder, list[ExampleEncoder]]:
    """The student's encoder and each teacher's."""
    trust = recipe.trust_remote_code
    own = load_side(recipe.student, recipe.chat_template, trust_remote_code=trust)
    others = [
        load_side(
            TeacherName.parse(name).tokenizer,
            recipe.template_of_teacher(i, len(recipe.teacher)),
            trust_remote_code=trust,
        )
        for i, name in enumerate(recipe.teacher)
    ]
    return own, others


def build_student(recipe: DistilRecipe, encoder: TextEncoder) -> tuple[Student, torch.dtype]:
    """The student, ready to train, and the dtype of its own files.

    Raises:
        ValueError: its tokenizer has ids that the model has no rows for.
    """
    trust, options = recipe.trust_remote_code, recipe.model_options
    if recipe.random_init:
        model = new_model(recipe.student, trust_remote_code=trust, options=options)
    else:
        model = load_model(recipe.student, trust_remote_code=trust, options=options)
    check_vocabulary_fits(model, len(encoder.byte_vocab.token_bytes), recipe.student)
    saved_dtype = model.dtype
    student = Student(model.float(), encoder)
    if recipe.lora:
        student = add_lora(student, Lora(rank=recipe.lora_rank, alpha=recipe.lora_alpha))
    return student, saved_dtype


def build_teachers(recipe: DistilRecipe, encoders: Sequence[ExampleEncoder]) -> list[Teacher]:
    """The frozen teachers, in the order of the recipe."""
    vocabs = [side.encoder.byte_vocab for side in encoders]
    return open_teachers(recipe, recipe.teacher, vocabs, training_device(recipe))


def no_teachers(recipe: DistilRecipe) -> list[Teacher]:
    """None, with a warning: the recipe names some."""
    log.warning("objective %s looks at no teacher: none is loaded", recipe.objective)
    return []


def warn_if_swapped(student: PreTrainedModel, teachers: Sequence[Teacher]) -> None:
    """Say so where a teacher is smaller than the student: the two may have been swapped."""
    own = student.num_parameters()
    for teacher in teachers:
        if teacher.num_parameters is not None and teacher.num_parameters < own:
            log.warning(
                "teacher %s (%.1fM parameters) is smaller than the student (%.1fM): "
                "were teacher and student swapped?",
                teacher.name,
                teacher.num_parameters / 1e6,
                own / 1e6,
            )


def save_student(
    recipe: DistilRecipe,
    student: Student,
    result: DistilResult,
    dtype: torch.dtype,
    rows: Any,
    summary: str,
) -> None:
    """Write model, tokenizer, recipe, card and figures."""
    lines = [summary]
    text = recipe_yaml(recipe)
    files = {
        "README.md": model_card(
            result.folder.name, lines, result.metrics, text, tag="distillation"
        ),
        RECIPE: text,
        "training.json": to_json(result.metrics),
    }
    model = student.export()
    stop_at_end_of_turn(model, student.encoder.byte_vocab, rows)
    save_outputs(result.folder, model, student.encoder.tokenizer, files, dtype=dtype)


def describe_run(recipe: DistilRecipe, *, is_taught: bool) -> str:
    """What was done, in a sentence."""
    teachers = " and ".join(f"`{name}`" for name in recipe.teacher)
    how = f"taught by {teachers} with" if is_taught else "trained without a teacher by"
    start = "random weights of the architecture of " if recipe.random_init else ""
    return (
        f"{start}`{recipe.student}`, {how} {recipe.objective} on `{recipe.data}`, {recipe.length}."
    )
