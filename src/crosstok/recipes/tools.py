"""Recipes of the jobs that look at models and tokenizers, and let models speak."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from crosstok.recipes.base import Strings, TextUnit, option

if TYPE_CHECKING:
    from crosstok.evaluation import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """Compare models by bits per byte, exams and likeness to a teacher."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: Strings = option("Model to evaluate: a name on the hub or a folder; may be repeated.")
    data: Strings | None = option("Texts for bits per byte; may be repeated.", None)
    exam: Strings | None = option("File of exam items; may be repeated.", None)
    teacher: str | None = option("Model whose likelihoods the others are compared with.", None)
    json: str | None = option("Also write the figures to this file.", None)
    max_length: int | None = option("Tokens of a window; the model's own limit if not given.", None)
    start_every_window: bool = option(
        "Put the start token in front of every window, not only of every text.", True
    )
    max_texts: int | None = option("Texts of each data set, from its beginning.", None)
    limit: int | None = option("Items of each exam, evenly spaced.", None)
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    trust_remote_code: bool = option("Run Python code that comes with a model.", False)

    def options(self) -> "EvaluationOptions":
        """How texts are read and scored."""
        from crosstok.evaluation import EvaluationOptions

        return EvaluationOptions(
            max_length=self.max_length,
            start_every_window=self.start_every_window,
            max_texts=self.max_texts,
            max_items=self.limit,
            text_field=self.text_field,
            text_unit=self.text_unit,
            split=self.split,
            trust_remote_code=self.trust_remote_code,
        )


@dataclass(frozen=True, kw_only=True)
class InspectRecipe:
    """Show how two tokenizers cut the same text, and count what they share."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    source: str = option("Tokenizer or model, name or folder.")
    target: str = option("Tokenizer or model to compare it with.")
    data: str | None = option("Texts to count on: a data set name, a file or a folder.", None)
    text: str | None = option("A text to show cut by both.", None)
    json: str | None = option("Also write the numbers to this file.", None)
    max_texts: int | None = option("Texts of each file, from its beginning.", None)
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    trust_remote_code: bool = option("Run Python code that comes with a tokenizer.", False)


@dataclass(frozen=True, kw_only=True)
class GenerateRecipe:
    """Continue a text; tokens are printed as they come."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str = option("Model: a name on the hub or a folder.")
    prompt: str = option("Text to continue.")
    max_new_tokens: int = option("At most so many.", 128)
    temperature: float = option("0: the likeliest token each time.", 0.0)
    seed: int = option("Of the sampling.", 0)
    trust_remote_code: bool = option("Run Python code that comes with the model.", False)
