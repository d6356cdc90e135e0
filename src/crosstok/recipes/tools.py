"""Recipes of the jobs that look at models and tokenizers."""

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from crosstok.recipes.base import (
    DTYPES,
    Combine,
    Numbers,
    RecipeError,
    Strings,
    Target,
    TextUnit,
    option,
)
from crosstok.recipes.training import DistilRecipe, LossOn

if TYPE_CHECKING:
    from crosstok.evaluation import EvaluationOptions


@dataclass(frozen=True, kw_only=True)
class EvaluateRecipe:
    """Compare models by bits per byte, exams, tasks and likeness to a teacher.

    A model is a name on the hub, a folder, a .yaml file that defines an ensemble, or bytes:NAME for
    the byte view of a model. With --combine all models answer as one.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: Strings = option(
        "Model to evaluate: a name on the hub, a folder, an ensemble file, or bytes:NAME; may be "
        "repeated."
    )
    data: Strings | None = option("Texts for bits per byte; may be repeated.", None)
    exam: Strings | None = option("File of exam items; may be repeated.", None)
    task: Strings | None = option(
        "Task of lm-eval: a name, a pattern or a file; may be repeated.", None
    )
    teacher: str | None = option("Model whose likelihoods the others are compared with.", None)
    json: str | None = option("Also write the figures to this file.", None)
    max_length: int | None = option(
        "Tokens of a window, or bytes of a byte model; its own limit if not given.", None
    )
    start_every_window: bool = option(
        "Put the start token in front of every window, not only of every text.", True
    )
    window_bytes: int | None = option(
        "Bytes of a window, in the place of tokens; up to 1024 with byte views and ensembles.", None
    )
    max_texts: int | None = option("Texts of each data set, from its beginning.", None)
    limit: int | None = option(
        "Items of each exam, evenly spaced, and of each task, from its beginning.", None
    )
    task_folder: str | None = option("Folder with task files of your own.", None)
    num_fewshot: int | None = option(
        "Tasks: solved examples in front of each question; the task's own number if not given.",
        None,
    )
    apply_chat_template: bool = option("Tasks: put the questions as chats.", False)
    combine: Combine | None = option("Let all models answer as one.", None)
    bytes: bool = option("Read every model byte by byte.", False)
    weight: Numbers | None = option(
        "--combine: weight of a model; repeated for each, equal if not given.", None
    )
    alpha: float = option("--combine proxy: strength of the difference of the experts.", 1.0)
    target: Target = option("Token sequences that count where models are read by bytes.", "all")
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    device: str | None = option("cpu, cuda, cuda:1, ...; an accelerator if there is one.", None)
    precision: Literal["fp32", "bf16", "fp16"] | None = option(
        "Of the weights; if not given, fp32 on a CPU and elsewhere as saved.", None
    )
    trust_remote_code: bool = option("Run Python code that comes with a model.", False)

    def options(self) -> "EvaluationOptions":
        """How texts are read and scored."""
        from crosstok.evaluation import EvaluationOptions

        return EvaluationOptions(
            max_length=self.max_length,
            window_bytes=self.window_bytes,
            start_every_window=self.start_every_window,
            max_texts=self.max_texts,
            max_items=self.limit,
            text_field=self.text_field,
            text_unit=self.text_unit,
            split=self.split,
            device=self.device,
            dtype=None if self.precision is None else DTYPES[self.precision],
            trust_remote_code=self.trust_remote_code,
            combine=self.combine,
            bytes_view=self.bytes,
            weights=self.weight,
            alpha=self.alpha,
            target=self.target,
            task_folder=self.task_folder,
            num_fewshot=self.num_fewshot,
            apply_chat_template=self.apply_chat_template,
        )


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
