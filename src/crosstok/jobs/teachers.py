"""The teachers of a job: checked before anything is loaded, and opened."""

import logging
from collections.abc import Sequence
from pathlib import Path

import torch

from crosstok.corpora import distinct_names
from crosstok.jobs.objectives import need_teacher
from crosstok.objectives import Objective
from crosstok.recipes import TrainingRecipe
from crosstok.teachers import Teacher, TeacherName, TeacherRequest, open_teacher, short_name
from crosstok.tokenizers import ByteVocab
from crosstok.training import compute_dtype, dtype_name

log = logging.getLogger("crosstok")


def check_teacher_cache(
    recipe: TrainingRecipe, output: Path, objectives: Sequence[Objective]
) -> None:
    """Refuse a folder for the teacher's scores that cannot be one, or that would not last.

    Raises:
        ValueError: it is a file, or lies in the output folder.
    """
    if recipe.teacher_cache is None:
        return
    cache = Path(recipe.teacher_cache)
    if cache.exists() and not cache.is_dir():
        raise ValueError(f"teacher_cache {cache} is a file; give the path of a folder.")
    if cache.resolve().is_relative_to(output.resolve()):
        raise ValueError(
            f"teacher_cache {cache} lies in the output {output}, which overwrite empties; give a "
            "folder outside it, for other runs to read too."
        )
    if not need_teacher(objectives):
        log.warning("teacher_cache is not used: objective %s needs no teacher", recipe.objective)


def open_teachers(
    recipe: TrainingRecipe,
    names: Sequence[str],
    vocabs: Sequence[ByteVocab],
    device: torch.device,
    *,
    running: Teacher | None = None,
) -> list[Teacher]:
    """The frozen teachers, in the order of their names.

    Args:
        recipe: of a job that trains.
        names: as the recipe calls them.
        vocabs: of their tokenizers.
        device: where training runs.
        running: the student's own weights, where they are the only teacher.

    Raises:
        ValueError: one cannot be opened.
    """
    dtype = compute_dtype(recipe.precision, device)
    arithmetic = dtype_name(dtype, shares_fp32_weights=running is not None)
    labels = distinct_names([short_name(TeacherName.parse(name).name) for name in names])
    cache = None if recipe.teacher_cache is None else Path(recipe.teacher_cache)
    return [
        open_teacher(
            name,
            TeacherRequest(
                name=name,
                byte_vocab=vocab,
                device=device,
                dtype=dtype,
                arithmetic=arithmetic,
                options=recipe.teacher_options or {},
                trust_remote_code=recipe.trust_remote_code,
            ),
            cache=None if cache is None else cache / label,
            running=running,
        )
        for name, vocab, label in zip(names, vocabs, labels, strict=True)
    ]
