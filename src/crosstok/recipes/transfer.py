"""Recipes of the jobs that give a model another tokenizer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import pydantic

from crosstok.choices import METHODS
from crosstok.plugins import check_name
from crosstok.recipes.fields import PathName, RecipeError, option
from crosstok.recipes.in_memory import ModelName
from crosstok.recipes.placing import PlacedRecipe
from crosstok.recipes.saving import PublishedRecipe
from crosstok.recipes.training import DEFAULT_BYTES, DEFAULT_LENGTH, TrainingRecipe

if TYPE_CHECKING:
    from crosstok.transplants import Resources, TransplantMethod


def _check_method(name: str) -> str:
    check_name(name, METHODS, "crosstok.transplants", "transplant method")
    return name


MethodName = Annotated[str, pydantic.AfterValidator(_check_method)]


@dataclass(frozen=True, kw_only=True)
class TransplantRecipe(PlacedRecipe, PublishedRecipe):
    """Give a model the embeddings of another tokenizer, without training."""

    model: ModelName = option("Model to start from: a name on the hub or a folder.", group="model")
    tokenizer: ModelName = option("New tokenizer: a tokenizer or model, or bytes.", group="model")
    output: PathName = option(
        "Folder to write the new model to.", group="output and run", on_resume="may change"
    )
    method: MethodName = option(
        f"How new tokens get their embeddings: {', '.join(METHODS)}, or module:Class.",
        "fvt",
        group="model",
    )
    method_options: dict[str, Any] | None = option(
        "Option of the method, or a resource that it needs: donor, vectors or texts.",
        None,
        group="model",
        example="power=2",
    )
    untie: bool | None = option(
        "Separate tied embeddings; by default for bytes only.",
        None,
        group="model",
    )
    input_expansion: bool = option(
        "For bytes: add the embedding of the old token that ends at each byte to the input.",
        False,
        group="model",
    )
    overwrite: bool = option(
        "Replace what the folder holds.", False, group="output and run", on_resume="may change"
    )
    trust_remote_code: bool = option(
        "Run Python code that comes with a model.", False, group="output and run"
    )

    @property
    def to_bytes(self) -> bool:
        """Whether the model is to read and write bytes."""
        return self.tokenizer == "bytes"  # crosstok.tokenizers.BYTES

    @property
    def unties(self) -> bool:
        """Whether tied embeddings become two matrices."""
        return self.to_bytes if self.untie is None else self.untie

    def transplant_method(self) -> "tuple[TransplantMethod, Resources]":
        """The method that ``method`` names, with its options and resources.

        Raises:
            RecipeError: the method is unknown, an option is wrong, or the method needs something
                that the recipe lacks.
        """
        from crosstok.transplants import check_resources, make_method, split_options

        resources, options = split_options(
            self.method_options or {}, trust_remote_code=self.trust_remote_code
        )
        try:
            method = make_method(self.method, options)
            check_resources(method, resources)
        except ValueError as error:
            raise RecipeError(str(error)) from error
        return method, resources


@dataclass(frozen=True, kw_only=True)
class TransferRecipe(TrainingRecipe, TransplantRecipe):
    """Give a model another tokenizer, and train it to behave as before."""

    def __post_init__(self) -> None:
        """Check every value, and how they fit together."""
        super().__post_init__()
        if self.lora and self.teacher_options:
            raise RecipeError(
                "teacher_options are given, and with lora the teacher is the trained model "
                "without its adapters. Give model_options, or leave lora out."
            )

    @property
    def student_max_length(self) -> int:
        """Most tokens (or bytes) in a window or chat, for the student."""
        default = DEFAULT_BYTES if self.to_bytes else DEFAULT_LENGTH
        return default if self.max_length is None else self.max_length
