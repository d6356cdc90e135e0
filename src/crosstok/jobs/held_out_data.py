"""Held-out texts, chats and exams: read before anything is loaded, and measured on a model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from crosstok.chats import Example, ExampleEncoder, parse_example, shared_examples
from crosstok.choices import LossOn
from crosstok.corpora import Examples, distinct_names, load_mixture
from crosstok.corpora.files import plain_name
from crosstok.corpora.load import read_rows
from crosstok.evaluation import bits_per_byte, read_exam, take_exam
from crosstok.evaluation.chat_bits_per_byte import bits_per_byte_of_chats, counted_tokens
from crosstok.evaluation.exams import Item
from crosstok.inference.token_model import TokenModel
from crosstok.models import evaluating
from crosstok.recipes import TrainingRecipe
from crosstok.training import Sides


@dataclass(frozen=True)
class Reader:
    """A model with the encoder of its tokenizer, as it is measured.

    Attributes:
        model: its window is that of the run.
        side: its encoder of chats.
    """

    model: TokenModel
    side: ExampleEncoder

    @classmethod
    def of(cls, model: Any, side: ExampleEncoder, name: str, max_length: int) -> "Reader":
        """Read by a model; its mode stays as it is.

        Raises:
            ValueError: it has fewer positions than ``max_length``.
        """
        with evaluating(model):
            plain = TokenModel(model, side.encoder.tokenizer, name=name)
        return cls(plain.with_window(max_length), side)


@dataclass(frozen=True)
class HeldOutTexts:
    """Texts."""

    texts: Sequence[str]

    def bits_per_byte(self, reader: Reader) -> float:
        """Bits per byte of a model on them."""
        return bits_per_byte(reader.model.scorer, self.texts).bits_per_byte

    def check(self, name: str, reader: Reader) -> None:
        """Refuse texts of which the model can score nothing.

        Raises:
            ValueError: names them.
        """
        scorer = reader.model.scorer
        if not any(scorer.row(spans.ids) is not None for spans in scorer.encode(self.texts)):
            raise ValueError(
                f"eval_data {name}: the {len(self.texts)} texts hold no byte that the student can "
                "score; give longer texts, or more of them by eval_texts."
            )


@dataclass(frozen=True)
class HeldOutChats:
    """Chats, or prompts with completions; what ``loss_on`` marks is measured."""

    examples: Sequence[Example]
    loss_on: LossOn

    def bits_per_byte(self, reader: Reader) -> float:
        """Bits per byte of a model on what is measured of them, under its own template."""
        spans = reader.side(self.examples, loss_on=self.loss_on)
        return bits_per_byte_of_chats(reader.model.scorer, spans).bits_per_byte

    def check(self, name: str, reader: Reader) -> None:
        """Refuse chats of which the model can score nothing.

        Raises:
            ValueError: names them.
        """
        length = reader.model.scorer.max_length
        encoded = reader.side(self.examples, loss_on=self.loss_on)
        if not any(counted_tokens(spans, length).any() for spans in encoded):
            raise ValueError(
                f"eval_data {name}: of the {len(self.examples)} chats, all bytes that loss_on "
                f"{self.loss_on!r} marks lie after max_length {length}. Give a larger one."
            )


@dataclass(frozen=True)
class HeldOutExam:
    """An exam."""

    items: Sequence[Item]

    def accuracy(self, reader: Reader) -> float:
        """Share of its items that a model answers rightly."""
        return take_exam(reader.model, self.items).accuracy


@dataclass(frozen=True)
class HeldOutData:
    """What is measured while a model trains.

    Attributes:
        texts: texts and chats by name; two of one name are distinguished by ``-2``, ``-3``, ...
        exams: exams by name, likewise.
    """

    texts: Mapping[str, HeldOutTexts | HeldOutChats] = field(default_factory=dict)
    exams: Mapping[str, HeldOutExam] = field(default_factory=dict)

    @cached_property
    def figures(self) -> "dict[str, HeldOutTexts | HeldOutChats | HeldOutExam]":
        """What is measured, by the name of its figure."""
        texts = {f"eval_{name}_bits_per_byte": data for name, data in self.texts.items()}
        return {**texts, **{f"eval_{name}_accuracy": exam for name, exam in self.exams.items()}}

    def __bool__(self) -> bool:
        return bool(self.figures)

    def check(self, reader: Reader) -> None:
        """Refuse what the student cannot be measured on.

        Raises:
            ValueError: names it.
        """
        for name, data in self.texts.items():
            data.check(name, reader)


def measure(data: HeldOutTexts | HeldOutChats | HeldOutExam, reader: Reader) -> float:
    """The figure of a model: accuracy of an exam, otherwise bits per byte."""
    if isinstance(data, HeldOutExam):
        return data.accuracy(reader)
    return data.bits_per_byte(reader)


def load_held_out(recipe: TrainingRecipe, sides: Sides) -> HeldOutData:
    """The recipe's held-out data; empty where it has none.

    Chats are read as all models of the run read them, so that every model is measured on the same
    bytes.

    Raises:
        ValueError: something cannot be read, holds no text, or is not an exam; or a template
            cannot render a chat.
    """
    loaded = [_load(recipe, source) for source in recipe.eval_data or ()]
    names = distinct_names([examples.name for examples in loaded])
    exams = recipe.eval_exam or ()
    titles = distinct_names([plain_name(Path(path)) for path in exams])
    return HeldOutData(
        {
            name: _held_out(recipe, examples, sides)
            for name, examples in zip(names, loaded, strict=True)
        },
        {
            title: HeldOutExam(_read_exam(path, recipe.eval_limit))
            for title, path in zip(titles, exams, strict=True)
        },
    )


def _held_out(
    recipe: TrainingRecipe, loaded: Examples, sides: Sides
) -> HeldOutTexts | HeldOutChats:
    if loaded.kind == "text":
        return HeldOutTexts(list(loaded.texts(recipe.eval_texts)))
    rows = islice(loaded.dataset, recipe.eval_texts)
    examples: list[Example] = [parse_example(row["example"], row["where"]) for row in rows]
    for side in sides.all:
        side.check(examples)
    return HeldOutChats(shared_examples(examples, *sides.all), recipe.loss_on)


def _load(recipe: TrainingRecipe, source: str) -> Examples:
    try:
        return load_mixture(
            [source],
            columns=recipe.columns,
            text_field=recipe.text_field,
            text_unit=recipe.text_unit,
            split=recipe.eval_split,
            streaming=recipe.streaming,
            may_lack_columns=True,
        )
    except ValueError as error:
        raise ValueError(
            f"eval_data {source} (split {recipe.eval_split!r}; eval_split sets another): {error}"
        ) from error


def _read_exam(path: str, limit: int | None) -> list[Item]:
    try:
        return read_exam(read_rows(path), path, limit)
    except ValueError as error:
        raise ValueError(f"eval_exam {path}: {error}") from error
