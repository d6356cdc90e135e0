"""The recipe of a look at two tokenizers, or at a teacher and a student."""

from dataclasses import dataclass, fields
from typing import ClassVar, Literal

from crosstok.choices import LossOn, TextUnit
from crosstok.recipes.distil import DistilRecipe
from crosstok.recipes.fields import RecipeError, Strings, option


@dataclass(frozen=True, kw_only=True)
class InspectRecipe:
    """Look at two tokenizers, or, before a distillation, at a teacher and a student.

    --source and --target show how two tokenizers cut the same text. --teacher, --student and --data
    say what the one can teach the other, by which objective, and what a step costs.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    source: str | None = option("Tokenizer or model, name or folder.", None)
    target: str | None = option("Tokenizer or model to compare it with; or bytes.", None)
    teacher: str | None = option("Model to learn from; a tokenizer alone tells less.", None)
    student: str | None = option("Model to be trained; a tokenizer alone tells less.", None)
    data: str | None = option("Texts or chats: a data set name, a file or a folder.", None)
    text: str | None = option("A text to show cut by two tokenizers.", None)
    json: str | None = option("Also write the numbers to this file.", None)
    html: str | None = option("Also write a page for a browser to this file.", None)
    max_texts: int | None = option(
        "Texts of each file, from its beginning; before a distillation, evenly spaced (256).", None
    )
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    trust_remote_code: bool = option("Run Python code that comes with a tokenizer or model.", False)

    models: bool = option("Load the models too, and take a few steps (with --teacher).", True)
    batch_size: int = option("Texts or chats in a step (with --teacher).", 16)
    max_length: int = option("Tokens of a text or chat, on either side (with --teacher).", 512)
    teacher_max_length: int | None = option(
        "Teacher's tokens of it, if another number (with --teacher).", None
    )
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "Arithmetic of the passes (with --teacher).", "fp32"
    )
    loss_on: LossOn = option(
        "Of a chat, what is learned: all, assistant turns, or the last of them (with --teacher).",
        "assistant",
    )
    chat_template: str | None = option(
        "Template of the student instead of its own: a file, or plain (with --teacher).", None
    )
    teacher_chat_template: Strings | None = option(
        "The same for the teacher (with --teacher).", None
    )

    def is_of_models(self) -> bool:
        """Whether a teacher and a student are asked for, not two tokenizers.

        Raises:
            RecipeError: both are, or neither, or an option is missing or of the other form.
        """
        tokenizers, models = ("source", "target"), ("teacher", "student")
        of_tokenizers, of_models = self._any(tokenizers), self._any(models)
        if of_tokenizers and of_models:
            raise RecipeError(
                "inspect looks at two tokenizers (--source, --target) or at a teacher and a "
                "student (--teacher, --student), not at both. Leave one pair out."
            )
        if not of_tokenizers and not of_models:
            raise RecipeError(
                "missing: --source and --target (two tokenizers), or --teacher, --student and "
                "--data (before a distillation)."
            )
        needed = (*models, "data") if of_models else tokenizers
        missing = [f"--{name}" for name in needed if getattr(self, name) is None]
        if missing:
            raise RecipeError(f"missing: {', '.join(missing)}.")
        given = self._given(("text",) if of_models else _OF_MODELS)
        if given:
            form = "--source and --target" if of_models else "--teacher and --student"
            raise RecipeError(f"{', '.join(given)} can only be given with {form}.")
        return of_models

    def distillation(self, output: str) -> DistilRecipe:
        """The recipe of the distillation that is looked at."""
        return DistilRecipe(
            teacher=[str(self.teacher)],
            student=str(self.student),
            data=str(self.data),
            output=output,
            trust_remote_code=self.trust_remote_code,
            text_field=self.text_field,
            text_unit=self.text_unit,
            split=self.split,
            learning_rate=1e-5,  # of steps whose outcome is thrown away
            report_to="none",
            num_workers=0,
            **{name: getattr(self, name) for name in _OF_MODELS if name != "models"},
        )

    def _any(self, names: tuple[str, ...]) -> bool:
        return any(getattr(self, name) is not None for name in names)

    def _given(self, names: tuple[str, ...]) -> list[str]:
        """Flags of those that differ from their defaults."""
        defaults = {field.name: field.default for field in fields(self)}
        changed = [name for name in names if getattr(self, name) != defaults[name]]
        return [f"--{name.replace('_', '-')}" for name in changed]


_OF_MODELS = (
    "models",
    "batch_size",
    "max_length",
    "teacher_max_length",
    "precision",
    "loss_on",
    "chat_template",
    "teacher_chat_template",
)
