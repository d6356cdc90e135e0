"""Texts and chats as the rows that a trainer's collator takes."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from transformers import PreTrainedModel

from crosstok.chats import Conversation, ExampleEncoder, parse_example
from crosstok.corpora import Examples
from crosstok.tokenizers import ByteVocab
from crosstok.training.collator import AlignedCollator
from crosstok.training.rows import chat_rows
from crosstok.training.windows import text_windows, window_length

_ROWS_LOOKED_AT = 64


def training_rows(
    examples: Examples, sides: Sequence[ExampleEncoder], lengths: Sequence[int]
) -> Any:
    """Chats, or windows of text that fill ``max_length`` tokens.

    Args:
        examples: texts or chats.
        sides: encoders of the student and of its teachers.
        lengths: ``max_length`` of each side.

    Raises:
        ValueError: a template cannot render a chat; names it.
    """
    if examples.kind == "chat":
        return chat_rows(examples, sides)
    own = [(side.encoder, length - 2) for side, length in zip(sides, lengths, strict=True)]
    return text_windows(examples, window_length(examples, own))  # less bos and eos


def are_chats(rows: Any) -> bool:
    """Whether these rows are conversations: their answers end in the end of a turn."""
    if "example" not in (rows.column_names or ()):
        return False
    first = next(iter(rows))
    return isinstance(parse_example(first["example"], first["where"]), Conversation)


def check_something_is_learned(
    collator: AlignedCollator, rows: Iterable[Mapping[str, Any]]
) -> None:
    """Refuse rows of which the first hold nothing to learn within ``max_length``.

    Raises:
        ValueError: names the lengths and what to do.
    """
    for row in islice(rows, _ROWS_LOOKED_AT):
        if int(collator([row])["num_bytes"].sum()):
            return
    raise ValueError(
        f"max_length {collator.max_length} (teacher: "
        f"{collator.teacher_max_length or collator.max_length}) leaves nothing "
        f"to learn: in the first {_ROWS_LOOKED_AT} rows or fewer, all bytes that loss_on "
        f"{collator.loss_on!r} trains on lie after it. Give a larger one."
    )


def stop_where_turns_end(model: PreTrainedModel, vocab: ByteVocab) -> None:
    """Let ``generate`` stop where a turn ends, after training on chats."""
    end_of_turn = [i for i in vocab.roles.get("end_of_turn", ()) if i in vocab.special_ids]
    if not end_of_turn:
        return
    config = model.generation_config
    stops = config.eos_token_id
    stops = [] if stops is None else [stops] if isinstance(stops, int) else list(stops)
    ends = (vocab.document_end, end_of_turn[-1], *vocab.roles.get("end_of_chat", ()))
    config.eos_token_id = sorted({*stops, *(id_ for id_ in ends if id_ is not None)})
