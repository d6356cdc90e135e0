"""How many bytes a byte student reads, and how many tokens of its teacher that is."""

import logging
import math
from dataclasses import replace
from itertools import islice
from typing import Any

from crosstok.chats import ExampleEncoder, parse_example
from crosstok.corpora import Examples
from crosstok.models import load_config, max_positions, why_positions_are_fixed
from crosstok.recipes import TransferRecipe
from crosstok.training import Sides

log = logging.getLogger("crosstok")

_SAMPLE_EXAMPLES = 64
_SAMPLE_CHARACTERS = 20_000
_MARGIN = 1.25  # teacher's tokens that a window may have above the mean; unused ones cost nothing


def fit_lengths(recipe: TransferRecipe, examples: Examples, sides: Sides) -> TransferRecipe:
    """The recipe with both lengths: what was given, and for the rest the same text in other units.

    A length that is not given follows from the other by the bytes per token of the data's first
    examples; without either, 2048 bytes, or as many as the model has learned positions for.

    Raises:
        ValueError: more bytes or tokens than the model can have positions for.
    """
    config = load_config(recipe.model, trust_remote_code=recipe.trust_remote_code)
    positions = max_positions(config)
    reason = why_positions_are_fixed(config)
    _check_given(recipe, positions, reason)
    num_bytes = bytes_per_token(examples, sides.student, sides.first_teacher)
    teacher = recipe.teacher_max_length
    if recipe.max_length is None and teacher is not None:
        student = int(teacher * num_bytes)
    else:
        student = recipe.student_max_length
    if recipe.max_length is None and reason is not None and positions is not None:
        student = min(student, positions)
    if teacher is None:
        teacher = _teacher_length(student, num_bytes, positions)
    log.info(
        "a window or chat: up to %d bytes of the student, %d tokens of the teacher "
        "(%.2f bytes a token in this data)",
        student,
        teacher,
        num_bytes,
    )
    return replace(recipe, max_length=student, teacher_max_length=teacher)


def _teacher_length(num_student: int, num_bytes: float, positions: int | None) -> int:
    """Tokens for as many bytes, at most those that the teacher has positions for."""
    wanted = math.ceil(_MARGIN * num_student / num_bytes)
    if positions is None or wanted <= positions:
        return wanted
    if positions * num_bytes < num_student:
        log.warning(
            "max_length %d is more than the teacher reads: its %d positions hold about %d bytes, "
            "and texts are cut there",
            num_student,
            positions,
            int(positions * num_bytes),
        )
    return positions


def bytes_per_token(examples: Examples, own: ExampleEncoder, other: ExampleEncoder) -> float:
    """Mean ids of the byte side for an id of the other, on the data's first examples."""
    first = list(islice(examples.dataset, _SAMPLE_EXAMPLES))
    sizes = [_num_ids(first, examples.kind, side) for side in (own, other)]
    return sizes[0] / max(1, sizes[1])


def _num_ids(rows: list[dict[str, Any]], kind: str, side: ExampleEncoder) -> int:
    if kind == "text":
        texts = [row["text"][:_SAMPLE_CHARACTERS] for row in rows]
        encoded = side.encoder(texts, add_start=False, add_end=False)
    else:
        examples = [parse_example(row["example"], row["where"]) for row in rows]
        encoded = side(examples, loss_on="all")
    return sum(map(len, encoded))


def _check_given(recipe: TransferRecipe, positions: int | None, reason: str | None) -> None:
    if reason is None or positions is None:
        return
    for option, given, what in (
        ("max_length", recipe.max_length, "bytes"),
        ("teacher_max_length", recipe.teacher_max_length, "tokens"),
    ):
        if given is not None and given > positions:
            raise ValueError(
                f"{option} is {given}, and {recipe.model!r} has {positions} positions and cannot "
                f"have more: {reason}. At most {positions} {what} fit."
            )
