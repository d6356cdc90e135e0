"""The recipes that inspect two tokenizers, or a teacher and a student."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from crosstok.choices import LossOn, Precision, TextUnit
from crosstok.recipes.data import COLUMNS, READING, check_columns
from crosstok.recipes.distil import DistilRecipe
from crosstok.recipes.effects import refuse_unused
from crosstok.recipes.fields import (
    CheckedRecipe,
    PathName,
    RecipeError,
    Strings,
    load_recipe,
    option,
    read_recipe_file,
)
from crosstok.recipes.in_memory import ModelName, Sources


@dataclass(frozen=True, kw_only=True)
class _InspectRecipe(CheckedRecipe):
    """Options of both inspections: the texts to read and the files to write."""

    json: PathName | None = option("Also write the numbers to this file.", None, group="both")
    html: PathName | None = option("Also write a page for a browser here.", None, group="both")
    columns: dict[str, str] | None = option(COLUMNS, None, group="both", example="text=body")
    text_field: str = option("Field of the data that holds the text.", "text", group="both")
    text_unit: TextUnit = option("How a .txt file is divided into texts.", "line", group="both")
    split: str = option("Split of a data set or folder.", "train", group="both")
    trust_remote_code: bool = option(
        "Run Python code that comes with a tokenizer or model.", False, group="both"
    )


@dataclass(frozen=True, kw_only=True)
class InspectTokenizersRecipe(_InspectRecipe):
    """Compare how two tokenizers split the same text."""

    source: ModelName = option("Tokenizer or model, name or folder.", group="two tokenizers")
    target: ModelName = option(
        "Tokenizer or model to compare with, or bytes.", group="two tokenizers"
    )
    text: str | None = option(
        "A text to show split into tokens, instead of --data.",
        None,
        group="two tokenizers",
        free_text=True,
    )
    data: Sources | None = option(
        "Texts: a data set name, a file, a folder or a glob.", None, group="both"
    )
    max_texts: int | None = option(
        "Texts from the beginning of each file; with --teacher, evenly spaced (256 if not given).",
        None,
        group="both",
        at_least=1,
    )

    def __post_init__(self) -> None:
        """Check every value, and that there is one source of texts."""
        super().__post_init__()
        check_columns(self.columns, self.text_field, "text")
        if (self.data is None) == (self.text is None):
            raise RecipeError(
                "inspect needs either data (texts to count on) or text. Give one of the two."
            )
        if self.data is None:
            refuse_unused(self, ("max_texts", *READING), "data")


_MODELS = "a teacher and a student"


@dataclass(frozen=True, kw_only=True)
class InspectModelsRecipe(_InspectRecipe):
    """Inspect a teacher and a student before a distillation."""

    teacher: ModelName = option("Model to learn from, or a tokenizer alone.", group=_MODELS)
    student: ModelName = option("Model to be trained, or a tokenizer alone.", group=_MODELS)
    data: Sources = option(
        "Texts or chats: a data set name, a file, a folder or a glob.", group="both"
    )
    max_texts: int | None = option(
        "Texts or chats to read, evenly spaced; 256 if not given.", None, group="both", at_least=1
    )
    models: bool = option(
        "Also load the models and take a few training steps.", True, group=_MODELS
    )
    batch_size: int = option("Texts or chats in a training step.", 16, group=_MODELS, at_least=1)
    max_length: int = option("Most tokens in a text or chat.", 512, group=_MODELS, at_least=1)
    teacher_max_length: int | None = option(
        "Most tokens for the teacher, if not the student's number.", None, group=_MODELS, at_least=1
    )
    precision: Precision = option(
        "Precision of forward and backward passes.", "fp32", group=_MODELS
    )
    loss_on: LossOn = option(
        "Which part of a chat counts: all, the assistant's turns, or its last turn.",
        "assistant",
        group=_MODELS,
    )
    chat_template: str | None = option(
        "Chat template instead of the student's own: a file, or plain.", None, group=_MODELS
    )
    teacher_chat_template: Strings | None = option(
        "Chat template instead of the teacher's own: a file, or plain.", None, group=_MODELS
    )

    def distillation(self, output: str) -> DistilRecipe:
        """The recipe of the distillation that is inspected."""
        shared = {f.name for f in fields(DistilRecipe)} & {f.name for f in fields(self)}
        return DistilRecipe(
            output=output,
            learning_rate=1e-5,  # the trained weights are discarded
            report_to="none",
            num_workers=0,
            **{name: getattr(self, name) for name in shared},
        )


def load_inspect_recipe(
    file: str | Path | None, flags: Mapping[str, Any]
) -> InspectTokenizersRecipe | InspectModelsRecipe:
    """Load the recipe of one of the two inspections, found from the options that are given.

    Raises:
        RecipeError: the options belong to both inspections or to neither, or the recipe does not
            load.
    """
    names = {*(read_recipe_file(Path(file)) if file is not None else ()), *flags}
    of_tokenizers, of_models = names & {"source", "target"}, names & {"teacher", "student"}
    if of_tokenizers and of_models:
        raise RecipeError(
            "inspect takes two tokenizers (source, target) or a teacher and a student (teacher, "
            "student), not both. Leave one pair out."
        )
    if not of_tokenizers and not of_models:
        raise RecipeError(
            "missing: source and target (two tokenizers), or teacher, student and data (before a "
            "distillation). Give them as options (--source, --target, ... on the command line) or "
            "as keys of a recipe file."
        )
    if of_models:
        _refuse_others(names, InspectModelsRecipe, InspectTokenizersRecipe, "source and target")
        return load_recipe(InspectModelsRecipe, file, flags)
    _refuse_others(names, InspectTokenizersRecipe, InspectModelsRecipe, "teacher and student")
    return load_recipe(InspectTokenizersRecipe, file, flags)


def _refuse_others(names: set[str], ours: type[Any], theirs: type[Any], form: str) -> None:
    known = {f.name for f in fields(ours)}
    others = [f.name for f in fields(theirs) if f.name in names - known]
    if others:
        raise RecipeError(
            f"{', '.join(others)} can only be given with {form}. Leave {', '.join(others)} out."
        )
