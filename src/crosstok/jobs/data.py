"""The data of a job that trains: read, and cut into the rows that its collator takes."""

import logging
from collections.abc import Sequence
from typing import Any

from crosstok.chats import ExampleEncoder, describe_template, resolve_chat_template
from crosstok.corpora import Examples, load_mixture
from crosstok.recipes import TrainingRecipe
from crosstok.tokenizers import TextEncoder, load_target_tokenizer, load_tokenizer
from crosstok.training import Sides
from crosstok.training.training_rows import are_chats, training_rows

log = logging.getLogger("crosstok")


def load_encoder(
    name: str,
    chat_template: str | None,
    *,
    bytes_of: str | None = None,
    trust_remote_code: bool = False,
) -> ExampleEncoder:
    """A model's tokenizer as an encoder of texts and chats.

    Args:
        name: tokenizer or model, name or folder.
        chat_template: used instead of the tokenizer's own: a file, or a built-in name.
        bytes_of: the model whose specials the name ``bytes`` takes; None: it is a name like others.
        trust_remote_code: whether its Python code may be executed.

    Raises:
        ValueError: there is no such tokenizer or template.
    """
    if bytes_of is None:
        tokenizer = load_tokenizer(name, trust_remote_code=trust_remote_code)
    else:
        tokenizer = load_target_tokenizer(name, bytes_of, trust_remote_code=trust_remote_code)
    if chat_template is not None:
        if tokenizer.chat_template:
            log.warning("%s: its own chat template is replaced by %r", name, chat_template)
        tokenizer.chat_template = resolve_chat_template(chat_template)
    return ExampleEncoder(TextEncoder(tokenizer))


def load_data(recipe: TrainingRecipe) -> Examples:
    """Read the data of a recipe.

    Raises:
        ValueError: it cannot be read.
    """
    return load_mixture(
        recipe.data,
        recipe.data_weight,
        columns=recipe.columns,
        text_field=recipe.text_field,
        text_unit=recipe.text_unit,
        split=recipe.split,
        streaming=recipe.streaming,
    )


def make_rows(examples: Examples, recipe: TrainingRecipe, sides: Sides) -> Any:
    """Make rows for the collator: chats, or windows of text that fill ``max_length`` tokens.

    Raises:
        ValueError: a template cannot render a chat (names it).
    """
    teacher_length = recipe.teacher_max_length or recipe.student_max_length
    lengths = [recipe.student_max_length, *[teacher_length] * len(sides.teachers)]
    rows = training_rows(examples, sides.all, lengths)
    if examples.kind == "chat" and are_chats(rows):
        report_template_changes(sides.all)
    return rows.shuffle(seed=recipe.seed, buffer_size=10_000) if recipe.streaming else rows


def report_template_changes(sides: Sequence[ExampleEncoder]) -> None:
    """Log where a model will not read a chat as it is written in the data."""
    for side in sides:
        name = side.encoder.tokenizer.name_or_path
        template = describe_template(side)
        if template.system == "folded":
            log.info(
                "%s: its template takes no system message; where a chat has one, it is put at the "
                "head of the first user message",
                name,
            )
        if template.before_first:
            log.info(
                "%s: its template begins every chat without a system message with %r",
                name,
                template.before_first,
            )
