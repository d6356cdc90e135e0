"""The main job: give a model another tokenizer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import PreTrainedModel, set_seed

from crosstok.jobs.arguments import training_device
from crosstok.jobs.byte_lengths import fit_lengths
from crosstok.jobs.data import load_data, load_encoder, make_rows
from crosstok.jobs.held_out import HeldOut, Original
from crosstok.jobs.held_out_data import load_held_out
from crosstok.jobs.objectives import choose_objectives, need_teacher
from crosstok.jobs.positions import check_lengths_of_transfer
from crosstok.jobs.result import TrainedResult
from crosstok.jobs.run import Run, check_request
from crosstok.jobs.teachers import open_teachers
from crosstok.jobs.transplant import describe_rows, give_embeddings
from crosstok.models import (
    SavedDtypes,
    check_is_bytes,
    describe_architecture,
    load_config,
    load_model,
    load_to_change,
    max_positions,
    raise_max_positions,
)
from crosstok.objectives import Objective
from crosstok.recipes import TransferRecipe, takes
from crosstok.teachers import LocalTeacher, Teacher
from crosstok.tokenizers import TextEncoder
from crosstok.training import (
    Lora,
    OriginalEmbeddings,
    Sides,
    Student,
    add_lora,
    compute_dtype,
)
from crosstok.training.model_card import code, escape, listed
from crosstok.transplants import TransplantReport

log = logging.getLogger("crosstok")


@dataclass(frozen=True, kw_only=True, repr=False)
class TransferResult(TrainedResult):
    """What a transfer leaves.

    Attributes:
        report: where the embedding rows came from.
    """

    report: TransplantReport


@takes(TransferRecipe)
def transfer(
    recipe: TransferRecipe, objectives: Sequence[Objective] | None = None
) -> TransferResult:
    """Transplant the model's embeddings, train it against its old self, and save it.

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
    check_request(recipe, [recipe.model], objectives)
    recipe.transplant_method()
    for warning in check_lengths_of_transfer(recipe):
        log.warning("%s", warning)
    set_seed(recipe.seed)
    sides = load_sides(recipe)
    held_out = load_held_out(recipe, sides)
    examples = load_data(recipe)
    fitted = fit_lengths(recipe, examples, sides) if recipe.to_bytes else recipe
    rows = make_rows(examples, fitted, sides)
    source, target = sides.first_teacher.encoder, sides.student.encoder
    student, teachers, dtypes = build_models(
        fitted, source, target, needs_teacher=need_teacher(objectives)
    )
    run = Run(
        asked=recipe,
        recipe=fitted,
        objectives=objectives,
        sides=sides,
        rows=rows,
        student=student,
        teachers=teachers,
        dtypes=dtypes,
        held_out=HeldOut(
            fitted, student, sides.student, held_out, original(fitted, sides, teachers)
        ),
        base_model=recipe.model,
    ).train()
    assert student.report is not None
    report = student.report
    run.save(
        describe_run(recipe), describe(recipe, student), report.as_dict(), tag="tokenizer-transfer"
    )
    run.upload()
    return TransferResult(folder=run.folder, metrics=run.metrics, report=report)


def load_sides(recipe: TransferRecipe) -> Sides:
    """The encoder of the target tokenizer, and that of the model's own, which its old self keeps.

    Raises:
        ValueError: there is no such tokenizer or template, or input expansion is asked for without
            a tokenizer of bytes.
    """
    trust = recipe.trust_remote_code
    teacher = load_encoder(recipe.model, recipe.template_of_teacher(0), trust_remote_code=trust)
    student = load_encoder(
        recipe.tokenizer, recipe.chat_template, bytes_of=recipe.model, trust_remote_code=trust
    )
    if recipe.input_expansion:
        check_is_bytes(student.encoder.byte_vocab)
    return Sides(student, (teacher,))


def build_models(
    recipe: TransferRecipe, source: TextEncoder, target: TextEncoder, *, needs_teacher: bool = True
) -> tuple[Student, list[Teacher], SavedDtypes]:
    """The student with its new embeddings, its teacher if it needs one, and the files' dtypes."""
    trust = recipe.trust_remote_code
    model, dtypes = load_to_change(
        recipe.model, trust_remote_code=trust, options=recipe.model_options
    )
    device = training_device(recipe)
    model = model.float()
    original = OriginalEmbeddings.of(model, device) if recipe.lora and needs_teacher else None
    student = prepare_student(recipe, model, source, target, dtypes.main)
    if recipe.lora:
        student = add_lora(student, Lora(rank=recipe.lora_rank, alpha=recipe.lora_alpha))
    if not needs_teacher:
        return student, [], dtypes
    own_weights = None if original is None else original.teacher(student, source)
    teachers = open_teachers(
        recipe, [recipe.model], [source.byte_vocab], device, running=own_weights
    )
    return student, teachers, dtypes


def original(recipe: TransferRecipe, sides: Sides, teachers: Sequence[Teacher]) -> Original:
    """The model as it was, with its own tokenizer: the teacher, or loaded where that is none."""
    running = next((t.model for t in teachers if isinstance(t, LocalTeacher)), None)
    device = training_device(recipe)

    def open_model() -> Any:
        if running is not None:
            return running
        return load_model(
            recipe.model,
            dtype=compute_dtype(recipe.precision, device),
            device=device,
            trust_remote_code=recipe.trust_remote_code,
            options=recipe.model_options,
        )

    return Original("original", sides.first_teacher, open_model)


def prepare_student(
    recipe: TransferRecipe,
    model: PreTrainedModel,
    source: TextEncoder,
    target: TextEncoder,
    dtype: torch.dtype,
) -> Student:
    """The model with the embeddings of the target tokenizer and positions for its lengths.

    Raises:
        ValueError: the model cannot have as many positions.
    """
    model, report = give_embeddings(recipe, model, source, target, dtype)
    before, length = max_positions(model.config), recipe.student_max_length
    if recipe.to_bytes and raise_max_positions(model.config, length):
        log.info("max_position_embeddings raised from %s to %d, for as many bytes", before, length)
        target.tokenizer.model_max_length = length
    return Student(model, target, report)


def describe(recipe: TransferRecipe, student: Student) -> list[str]:
    """What became of the model's embeddings and positions, in sentences for its card."""
    assert student.report is not None
    return [
        *describe_rows(student.report),
        *describe_positions(recipe, student.model),
        *describe_architecture(student.model),
    ]


def describe_run(recipe: TransferRecipe) -> str:
    """What was done, in a sentence."""
    return (
        f"{code(recipe.model)} moved to the tokenizer of {code(recipe.tokenizer)} by "
        f"{escape(recipe.objective)} on {listed(recipe.data)}, {recipe.length}."
    )


def describe_positions(recipe: TransferRecipe, model: PreTrainedModel) -> list[str]:
    """What the student's positions are, where they are not the model's."""
    config = load_config(recipe.model, trust_remote_code=recipe.trust_remote_code)
    before, after = max_positions(config), max_positions(model.config)
    if before == after:
        return []
    return [f"`max_position_embeddings` was raised from {before:,} tokens to {after:,} bytes."]
