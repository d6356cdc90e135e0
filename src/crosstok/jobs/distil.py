"""Teach a student from teachers that have other tokenizers."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedModel, set_seed

from crosstok.jobs.arguments import training_device
from crosstok.jobs.data import load_data, load_encoder, make_rows
from crosstok.jobs.held_out import HeldOut, Original
from crosstok.jobs.held_out_data import HeldOutData, load_held_out
from crosstok.jobs.objectives import choose_objectives, need_teacher
from crosstok.jobs.positions import check_lengths_of_distillation
from crosstok.jobs.result import TrainedResult
from crosstok.jobs.run import Run, check_request
from crosstok.jobs.teachers import open_teachers
from crosstok.loaded import Loaded
from crosstok.models import SavedDtypes, check_vocabulary_fits, load_to_change, new_model
from crosstok.objectives import Objective
from crosstok.recipes import DistilRecipe, takes
from crosstok.teachers import LocalTeacher, Teacher, TeacherName
from crosstok.tokenizers import TextEncoder
from crosstok.training import Lora, Sides, Student, add_lora
from crosstok.training.model_card import code, escape, listed

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
        DivergedError: the loss ended far above its start; the model is saved and marked.
        SaveError: the disk is full; the last checkpoint stands.
        UploadError: the model is saved, and could not be uploaded.
    """
    recipe, objectives = choose_objectives(recipe, objectives)
    check_request(recipe, [recipe.student], objectives)
    if recipe.teacher_cache is None:  # a stored teacher needs no model, only its tokenizer
        for name in recipe.teacher:
            TeacherName.parse(name).check()
    for warning in check_lengths_of_distillation(recipe):
        log.warning("%s", warning)
    set_seed(recipe.seed)
    sides = load_sides(recipe)
    held_out = load_held_out(recipe, sides)
    rows = make_rows(load_data(recipe), recipe, sides)
    student, dtypes = build_student(recipe, sides.student.encoder)
    teachers = build_teachers(recipe, sides) if need_teacher(objectives) else no_teachers(recipe)
    warn_if_swapped(student.model, teachers)
    run = Run(
        asked=recipe,
        recipe=recipe,
        objectives=objectives,
        sides=sides,
        rows=rows,
        student=student,
        teachers=teachers,
        dtypes=dtypes,
        held_out=HeldOut(
            recipe, student, sides.student, held_out, first_teacher(sides, teachers, held_out)
        ),
        base_model=base_model(recipe),
    ).train()
    run.save(describe_run(recipe, is_taught=bool(teachers)), [], {}, tag="distillation")
    run.upload()
    return DistilResult(folder=run.folder, metrics=run.metrics)


def load_sides(recipe: DistilRecipe) -> Sides:
    """The encoders of the student and of each teacher.

    Raises:
        ValueError: there is no such tokenizer or template.
    """
    trust = recipe.trust_remote_code
    student = load_encoder(recipe.student, recipe.chat_template, trust_remote_code=trust)
    teachers = [
        load_encoder(
            TeacherName.parse(name).tokenizer,
            recipe.template_of_teacher(i, len(recipe.teacher)),
            trust_remote_code=trust,
        )
        for i, name in enumerate(recipe.teacher)
    ]
    return Sides(student, tuple(teachers))


def build_student(recipe: DistilRecipe, encoder: TextEncoder) -> tuple[Student, SavedDtypes]:
    """The student, ready to train, and the dtypes of its own files.

    Raises:
        ValueError: its tokenizer has ids that the model has no rows for.
    """
    trust, options = recipe.trust_remote_code, recipe.model_options
    if recipe.random_init:
        model = new_model(recipe.student, trust_remote_code=trust, options=options)
        dtypes = SavedDtypes(model.dtype)
    else:
        model, dtypes = load_to_change(recipe.student, trust_remote_code=trust, options=options)
    check_vocabulary_fits(model, encoder.byte_vocab.num_rows_needed, recipe.student)
    student = Student(model.float(), encoder)
    if recipe.lora:
        student = add_lora(student, Lora(rank=recipe.lora_rank, alpha=recipe.lora_alpha))
    return student, dtypes


def build_teachers(recipe: DistilRecipe, sides: Sides) -> list[Teacher]:
    """The frozen teachers, in the order of the recipe."""
    vocabs = [side.encoder.byte_vocab for side in sides.teachers]
    return open_teachers(recipe, recipe.teacher, vocabs, training_device(recipe))


def first_teacher(
    sides: Sides, teachers: Sequence[Teacher], held_out: HeldOutData
) -> Original | None:
    """The first teacher, to be measured on held-out data, where it is a model of this process."""
    first = next(iter(teachers), None)
    if isinstance(first, LocalTeacher):
        return Original("teacher", sides.first_teacher, lambda: first.model)
    if held_out and first is not None:
        log.info(
            "teacher %s: not measured on held-out data, as only its scores are here", first.name
        )
    return None


def no_teachers(recipe: DistilRecipe) -> list[Teacher]:
    """None, with a warning: the recipe names some."""
    log.warning("objective %s uses no teacher: none is loaded", recipe.objective)
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


def base_model(recipe: DistilRecipe) -> str | None:
    """The name of the model that is trained; None where no name gives it back."""
    has_no_name = recipe.random_init or isinstance(recipe.student, Loaded)
    return None if has_no_name else recipe.student


def describe_run(recipe: DistilRecipe, *, is_taught: bool) -> str:
    """What was done, in a sentence."""
    teachers = listed(recipe.teacher)
    how = f"taught by {teachers} with" if is_taught else "trained without a teacher by"
    start = "random weights of the architecture of " if recipe.random_init else ""
    return (
        f"{start}{code(recipe.student)}, {how} {escape(recipe.objective)} on "
        f"{listed(recipe.data)}, {recipe.length}."
    )
