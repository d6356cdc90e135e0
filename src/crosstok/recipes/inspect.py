"""The recipes of a look at two tokenizers, and at a teacher and a student."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal

from crosstok.choices import LossOn, TextUnit
from crosstok.recipes.distil import DistilRecipe
from crosstok.recipes.fields import (
    CheckedRecipe,
    RecipeError,
    Strings,
    load_recipe,
    option,
    read_recipe_file,
)


@dataclass(frozen=True, kw_only=True)
class _InspectRecipe(CheckedRecipe):
    """Where texts come from, and where the numbers go."""

    json: str | None = option("Also write the numbers to this file.", None, group="both")
    html: str | None = option("Also write a page for a browser to this file.", None, group="both")
    text_field: str = option("Field of the data that holds the text.", "text", group="both")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line", group="both")
    split: str = option("Split of a data set or folder.", "train", group="both")
    trust_remote_code: bool = option(
        "Run Python code that comes with a tokenizer or model.", False, group="both"
    )


@dataclass(frozen=True, kw_only=True)
class InspectTokenizersRecipe(_InspectRecipe):
    """Look at how two tokenizers cut the same text."""

    source: str = option("Tokenizer or model, name or folder.", group="two tokenizers")
    target: str = option("What to compare it with; or bytes.", group="two tokenizers")
    text: str | None = option("A text to show cut, in place of data.", None, group="two tokenizers")
    data: str | None = option("Texts: a data set name, a file or a folder.", None, group="both")
    max_texts: int | None = option(
        "Texts of each file, from its beginning; of models, evenly spaced (256).",
        None,
        group="both",
        at_least=1,
    )

    def __post_init__(self) -> None:
        """Check every value, and that there is one source of texts."""
        super().__post_init__()
        if (self.data is None) == (self.text is None):
            raise RecipeError("inspect needs one of --data (texts to count on) and --text.")


_MODELS = "a teacher and a student"


@dataclass(frozen=True, kw_only=True)
class InspectModelsRecipe(_InspectRecipe):
    """Look at a teacher and a student before a distillation."""

    teacher: str = option("Model to learn from, or a tokenizer alone.", group=_MODELS)
    student: str = option("Model to be trained, or a tokenizer alone.", group=_MODELS)
    data: str = option("Texts or chats: a data set name, a file or a folder.", group="both")
    max_texts: int | None = option(
        "Texts or chats, evenly spaced; 256 if not given.", None, group="both", at_least=1
    )
    models: bool = option("Load the models too, and take a few steps.", True, group=_MODELS)
    batch_size: int = option("Texts or chats in a step.", 16, group=_MODELS, at_least=1)
    max_length: int = option(
        "Tokens of a text or chat, on either side.", 512, group=_MODELS, at_least=1
    )
    teacher_max_length: int | None = option(
        "The teacher's, if another number.", None, group=_MODELS, at_least=1
    )
    precision: Literal["fp32", "bf16", "fp16"] = option(
        "Arithmetic of the passes.", "fp32", group=_MODELS
    )
    loss_on: LossOn = option(
        "Of a chat: all of it, assistant turns, or the last of them.", "assistant", group=_MODELS
    )
    chat_template: str | None = option(
        "Instead of the student's own: a file, or plain.", None, group=_MODELS
    )
    teacher_chat_template: Strings | None = option(
        "Instead of the teacher's own.", None, group=_MODELS
    )

    def distillation(self, output: str) -> DistilRecipe:
        """The recipe of the distillation that is looked at."""
        shared = {f.name for f in fields(DistilRecipe)} & {f.name for f in fields(self)}
        return DistilRecipe(
            output=output,
            learning_rate=1e-5,  # of steps whose outcome is thrown away
            report_to="none",
            num_workers=0,
            **{name: getattr(self, name) for name in shared},
        )


def load_inspect_recipe(
    file: str | Path | None, flags: Mapping[str, Any]
) -> InspectTokenizersRecipe | InspectModelsRecipe:
    """The recipe of one of the two looks, by the names that are in it.

    Raises:
        RecipeError: names of both looks are there, or of neither, or an option of the other; or the
            recipe does not load.
    """
    names = {*(read_recipe_file(Path(file)) if file is not None else ()), *flags}
    of_tokenizers, of_models = names & {"source", "target"}, names & {"teacher", "student"}
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
    if of_models:
        _refuse_others(names, InspectModelsRecipe, InspectTokenizersRecipe, "--source and --target")
        return load_recipe(InspectModelsRecipe, file, flags)
    _refuse_others(names, InspectTokenizersRecipe, InspectModelsRecipe, "--teacher and --student")
    return load_recipe(InspectTokenizersRecipe, file, flags)


def _refuse_others(names: set[str], ours: type[Any], theirs: type[Any], form: str) -> None:
    known = {f.name for f in fields(ours)}
    others = [f"--{f.name.replace('_', '-')}" for f in fields(theirs) if f.name in names - known]
    if others:
        raise RecipeError(f"{', '.join(others)} can only be given with {form}.")
