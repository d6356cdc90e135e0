"""``--teacher-cache``: what a job's teacher says is kept, and asked once."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

from crosstok.recipes import TrainingRecipe
from crosstok.teachers import Teacher, cached_teacher, short_name
from crosstok.tokenizers import ByteVocab

log = logging.getLogger("crosstok")


def check_teacher_cache(recipe: TrainingRecipe, output: Path) -> None:
    """Refuse a folder for the teacher's scores that cannot be one, or that would not last.

    Raises:
        ValueError: it is a file, or lies in the output folder.
    """
    if recipe.teacher_cache is None:
        return
    cache = Path(recipe.teacher_cache)
    if cache.exists() and not cache.is_dir():
        raise ValueError(f"--teacher-cache {cache} is a file; give the path of a folder.")
    if cache.resolve().is_relative_to(output.resolve()):
        raise ValueError(
            f"--teacher-cache {cache} lies in --output {output}, which --overwrite empties; give a "
            "folder outside it, for other runs to read too."
        )
    if not any(objective.needs.teacher for objective in recipe.objectives()):
        log.warning(
            "--teacher-cache is not used: objective %s looks at no teacher", recipe.objective
        )


def teacher_of(
    recipe: TrainingRecipe,
    model: str,
    byte_vocab: ByteVocab,
    arithmetic: str,
    load: Callable[[], Teacher],
    *,
    label: str | None = None,
) -> Teacher:
    """The teacher; with ``--teacher-cache`` what it said before, and itself for the rest.

    Args:
        recipe: of a job that trains.
        model: the teacher's name or folder.
        byte_vocab: of its tokenizer.
        arithmetic: the dtype that it computes in.
        load: makes the teacher itself.
        label: its folder in the cache; the last part of its name if not given.
    """
    if recipe.teacher_cache is None:
        return load()
    folder = Path(recipe.teacher_cache) / (label or short_name(model))
    trust = recipe.trust_remote_code
    return cached_teacher(folder, model, byte_vocab, arithmetic, load, trust_remote_code=trust)


def describe_arithmetic(recipe: TrainingRecipe, dtype: str) -> str:
    """What scores depend on besides the teacher's files: its dtype, and how it is loaded."""
    options = recipe.teacher_options
    return dtype if not options else f"{dtype}, {json.dumps(options, sort_keys=True, default=str)}"
