"""Problems of a pair that should be known before a distillation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from crosstok.reports.example_counts import ExampleNumbers, VocabularyNumbers

LOWEST_COVERAGE = 0.99
_LARGEST_CUT = 0.01


@dataclass(frozen=True)
class ModelNumbers:
    """Facts about a model that are known without running it."""

    name: str
    parameters: int
    embedding_rows: int
    output_rows: int
    highest_id: int  # highest id of its tokenizer
    max_positions: (
        int | None
    )  # positions that it was made for; None if its configuration has no limit


@dataclass(frozen=True)
class Flag:
    """One finding about a pair.

    Attributes:
        level: "error": the pair cannot be trained like this; "warning": it can, but check this
            first; "note": crosstok handles it.
        name: identifier for programs.
        message: explanation, with the next step.
    """

    level: Literal["error", "warning", "note"]
    name: str
    message: str


def red_flags(
    vocabulary: VocabularyNumbers,
    examples: ExampleNumbers,
    teacher: ModelNumbers | None,
    student: ModelNumbers | None,
    max_lengths: tuple[int, int],
) -> list[Flag]:
    """List the problems of a pair, and what else should be known about it; errors first.

    Args:
        vocabulary: sizes and overlap of the vocabularies.
        examples: numbers of a sample of the data.
        teacher: numbers of the teacher's model, if it is available.
        student: numbers of the student's model, if it is available.
        max_lengths: most tokens of an example for teacher and student.
    """
    flags = list(data_flags(examples))
    for side, model, length in zip(
        ("teacher", "student"), (teacher, student), max_lengths, strict=True
    ):
        if model is not None:
            flags += _of_model(side, model, length)
    if teacher and student and teacher.parameters < student.parameters:
        flags.append(
            Flag(
                "warning",
                "teacher_is_smaller",
                f"the teacher ({teacher.parameters / 1e6:.1f}M parameters) is smaller than the "
                f"student ({student.parameters / 1e6:.1f}M): were teacher and student swapped?",
            )
        )
    if vocabulary.teacher_ids == vocabulary.student_ids and not vocabulary.is_same:
        flags.append(
            Flag(
                "note",
                "equal_size",
                f"both vocabularies have {vocabulary.student_ids:,} ids, but not the same ones: "
                "software that compares sizes only would train on wrong ids. Here tokens are "
                "matched by their bytes.",
            )
        )
    return sorted(flags, key=lambda flag: ("error", "warning", "note").index(flag.level))


def data_flags(examples: ExampleNumbers) -> Iterator[Flag]:
    """Find the problems of the data, whatever the models."""
    if examples.coverage < LOWEST_COVERAGE:
        yield Flag(
            "warning",
            "low_coverage",
            f"coverage is {examples.coverage:.2%}, below {LOWEST_COVERAGE:.0%}: the rest of the "
            "bytes is never compared. The table of what is not learned names the causes; "
            "`crosstok inspect --source ... --target ... --text ...` shows a single text.",
        )
    if max(examples.teacher_ends, examples.student_ends) and not examples.matched_ends:
        yield Flag(
            "warning",
            "no_end_matched",
            f"no end of turn or document is matched (the teacher writes {examples.teacher_ends:,}, "
            f"the student {examples.student_ends:,}): the student does not learn from the teacher "
            "when to stop. Add cross_entropy, or give the side without an end a chat template "
            "(chat_template, teacher_chat_template).",
        )
    if examples.cut_share > _LARGEST_CUT:
        yield Flag(
            "warning",
            "cut",
            f"{examples.cut_share:.1%} of the bytes lie beyond max_length (or teacher_max_length) "
            "and are lost: raise it.",
        )
    if not examples.chunks:
        yield Flag(
            "error",
            "nothing_to_learn",
            "no chunk of this data can be compared. Check loss_on and max_length.",
        )


def _of_model(side: str, model: ModelNumbers, max_length: int) -> Iterator[Flag]:
    rows, needed = min(model.embedding_rows, model.output_rows), model.highest_id + 1
    if needed > rows:
        yield Flag(
            "error",
            f"{side}_vocabulary_exceeds_rows",
            f"the {side}'s tokenizer has ids up to {model.highest_id}, which need {needed} rows, "
            f"but its model has {rows}. Use the tokenizer that the model was saved with, or move "
            "the model to this one first (`crosstok transplant`).",
        )
    if model.output_rows > needed:
        yield Flag(
            "note",
            f"{side}_is_padded",
            f"{model.output_rows - needed:,} of the {side}'s {model.output_rows:,} output rows are "
            "not tokens: they are left out of every probability.",
        )
    if model.max_positions is not None and max_length > model.max_positions:
        yield Flag(
            "warning",
            f"{side}_positions",
            f"the {side} was made for {model.max_positions:,} positions, but would read up to "
            f"{max_length:,} tokens. Lower max_length"
            + (" or teacher_max_length." if side == "teacher" else "."),
        )


def has_errors(flags: Sequence[Flag]) -> bool:
    """Whether any flag is an error, so that the pair cannot be trained like this."""
    return any(flag.level == "error" for flag in flags)
