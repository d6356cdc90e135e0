"""Texts and chats to aligned tensors, for loops and trainers that are not ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from crosstok.chats import ExampleEncoder
from crosstok.choices import LossOn
from crosstok.corpora import as_row
from crosstok.corpora.examples import holds_chats
from crosstok.corpora.read import without_none
from crosstok.models import ExtraInputs
from crosstok.training.collator import AlignedCollator
from crosstok.training.given_models import encoder_of_tokenizer

IS_CHAT = "is_chat"

_IGNORED = -100  # what transformers calls a label that is not predicted


class DistillationCollator:
    """Texts or chats to one batch of tensors, for a ``DataLoader`` or a trainer of transformers.

    Rows are tokenized for both models, aligned in bytes and cut at one byte, where both are within
    their length; a text that is longer is cut off. Can be pickled for the workers of a loader.

    Args:
        student_tokenizer: a fast tokenizer, or its name.
        teacher_tokenizer: the same for the teacher.
        max_length: tokens of a row that are kept.
        teacher_max_length: the teacher's, if another number.
        loss_on: which part of a chat is learned; a text is learned whole.

    Raises:
        ValueError: a tokenizer is a slow one, or there is none of that name.
    """

    def __init__(
        self,
        student_tokenizer: Any,
        teacher_tokenizer: Any,
        *,
        max_length: int = 512,
        teacher_max_length: int | None = None,
        loss_on: LossOn = "assistant",
    ) -> None:
        student = encoder_of_tokenizer(student_tokenizer, "student_tokenizer")
        teacher = encoder_of_tokenizer(teacher_tokenizer, "teacher_tokenizer")
        self.aligned = AlignedCollator(student, (teacher,), max_length, teacher_max_length, loss_on)

    @classmethod
    def of(
        cls,
        student: ExampleEncoder,
        teacher: ExampleEncoder,
        max_length: int,
        teacher_max_length: int | None,
        loss_on: LossOn,
        extra: ExtraInputs | None,
    ) -> "DistillationCollator":
        """The collator of two encoders; `extra` finds the student's further inputs."""
        collator = cls.__new__(cls)
        collator.aligned = AlignedCollator(
            student, (teacher,), max_length, teacher_max_length, loss_on, extra
        )
        return collator

    def __call__(self, batch: Any) -> dict[str, Tensor]:
        """Collate one batch.

        Args:
            batch: texts, lists of messages, or rows with ``text``, ``messages``, or ``prompt`` and
                ``completion``; or the columns of such rows, as ``dataset[:8]`` gives them.

        Returns:
            The tensors of :class:`~crosstok.training.AlignedCollator`, ``is_chat`` [B], and the
            student's side once more under the names that trainers of transformers look for:
            ``input_ids`` and ``attention_mask`` [B Ts], ``labels`` [B Ts] (-100: not learned).

        Raises:
            ValueError: the batch is empty, mixes texts with chats, or has a row that is neither.
        """
        rows = _rows_of(batch)
        tensors = self.aligned(rows)
        tensors[IS_CHAT] = torch.full((len(rows),), "text" not in rows[0])
        ids, learned = tensors["student_ids"], tensors["student_loss_mask"]
        return tensors | {
            "input_ids": ids,
            "attention_mask": tensors["student_attention_mask"],
            "labels": ids.masked_fill(~learned, _IGNORED),
        }


def _rows_of(batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch as :class:`~crosstok.training.AlignedCollator` takes them.

    Raises:
        ValueError: see `DistillationCollator`.
    """
    if isinstance(batch, Mapping):
        columns = list(batch.values())
        batch = [dict(zip(batch, row, strict=True)) for row in zip(*columns, strict=True)]
    if isinstance(batch, str) or not isinstance(batch, Sequence) or not batch:
        found = "empty" if isinstance(batch, Sequence) and not batch else f"{batch!r:.60}"
        raise ValueError(
            f"the batch is {found}; it must be a list of at least one text or chat: "
            '["a text", ...], or [{"messages": [...]}, ...].'
        )
    rows = [_row(item, index) for index, item in enumerate(batch)]
    if len({"text" in row for row in rows}) > 1:
        raise ValueError(
            "the batch holds texts and chats; a batch must be of one kind. Split it in two, and "
            "add their sums."
        )
    return rows


def _row(item: object, index: int) -> dict[str, Any]:
    place = f"batch, row {index + 1}"
    row = without_none(as_row(item, place))
    if holds_chats(row.keys()) or "text" not in row:
        return {"example": row, "where": place, "row": index}
    if not isinstance(row["text"], str):
        raise ValueError(f"{place}: the text is {row['text']!r:.60}; it must be a string.")
    return {"text": row["text"], "row": index, "is_end": True}
