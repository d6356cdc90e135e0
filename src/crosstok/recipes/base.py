"""Recipes: everything a run depends on, as a frozen dataclass, as flags, and as YAML.

A recipe's fields are the command's flags with ``_`` for ``-``; the same names are the YAML keys.
Nothing heavy is imported here, so that a mistyped flag is answered at once: what a recipe builds is
imported where it is built.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, TypeVar

import pydantic
import yaml

if TYPE_CHECKING:
    from crosstok.evaluation import EvaluationOptions
    from crosstok.objectives import Objective
    from crosstok.objectives.weighting import Weighting

Recipe = TypeVar("Recipe")

Method = Literal["fvt", "mean"]  # crosstok.transplant.Method
TextUnit = Literal["line", "paragraph", "document"]  # crosstok.corpora.TextUnit
OBJECTIVES = ("alm", "cross_entropy")

# One value in a YAML file is a list of one.
Strings = Annotated[list[str], pydantic.BeforeValidator(lambda v: [v] if isinstance(v, str) else v)]


class RecipeError(ValueError):
    """What was asked for is not a recipe: a key or value that cannot be, or one that is missing."""


def option(help_text: str, default: Any = MISSING) -> Any:
    """A recipe field with the text that ``--help`` shows for it."""
    return field(default=default, metadata={"help": help_text})


@dataclass(frozen=True, kw_only=True)
class TransplantRecipe:
    """Give a model the embeddings of another tokenizer, without training."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    model: str = option("Model to start from: a name on the hub or a folder.")
    tokenizer: str = option("Tokenizer it is to have: a tokenizer or model, name or folder.")
    output: str = option("Folder to write the new model to.")
    method: Method = option("How tokens that the old vocabulary lacks get their rows.", "fvt")
    overwrite: bool = option("Replace what the output folder holds.", False)
    trust_remote_code: bool = option("Run Python code that comes with the model.", False)


@dataclass(frozen=True, kw_only=True)
class TransferRecipe(TransplantRecipe):
    """Give a model another tokenizer, and train it to be what it was."""

    data: str = option("Texts to train on: a data set name, a file or a folder.")
    objective: str = option("alm, cross_entropy, or several joined by +.", "alm")
    weighting: Literal["gradient_magnitude", "fixed"] = option(
        "How several objectives are combined.", "gradient_magnitude"
    )
    weights: dict[str, float] | None = option(
        "Weight by objective, for --weighting fixed (recipes only).", None
    )
    temperature: float = option("ALM: tau; 5 is the paper's later advice, inf the limit.", 100.0)
    divergence: Literal["kl", "total_variation"] = option("ALM: form of the divergence.", "kl")
    min_boundary_mass: float = option("ALM: gamma, what a chunk end needs; 0: no merging.", 0.1)
    debias: bool = option("ALM: multiply chunks by their boundary mass.", True)
    max_slope: float = option("ALM: largest pull on an over-confident chunk; inf: none.", 10.0)

    lora: bool = option("Train LoRA adapters and the embeddings instead of every weight.", False)
    lora_rank: int = option("Rank of the adapters.", 64)
    lora_alpha: int = option("Scale of the adapters: alpha / rank.", 64)

    max_steps: int = option("Optimizer steps.", 1000)
    batch_size: int = option("Windows of text in a micro-batch, on each device.", 16)
    gradient_accumulation_steps: int = option("Micro-batches in an optimizer step.", 1)
    max_length: int = option("Tokens of a window, on either side.", 512)
    teacher_max_length: int | None = option(
        "Teacher's tokens of a window, if another number.", None
    )
    learning_rate: float | None = option("Peak rate; chosen by model size if not given.", None)
    warmup_steps: int | None = option("Steps up to the peak; a tenth of all if not given.", None)
    weight_decay: float = option("AdamW's weight decay.", 0.0)
    max_grad_norm: float = option("Gradient norms above this are scaled down; 0: never.", 1.0)
    precision: Literal["fp32", "bf16", "fp16"] = option("Arithmetic of the passes.", "fp32")
    gradient_checkpointing: bool = option("Recompute activations to save memory.", False)
    seed: int = option("Of the order of the data and of every other draw.", 0)

    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    streaming: bool = option("Read the data while training instead of before.", False)
    num_workers: int = option("Processes that prepare batches.", 2)

    save_every: int = option("Steps between checkpoints.", 500)
    log_every: int = option("Steps between log lines.", 10)
    report_to: str = option("Where metrics go: tensorboard, wandb, ..., or none.", "tensorboard")
    resume: bool = option("Go on from the last checkpoint in the output folder.", False)

    def objectives(self) -> "list[Objective]":
        """The objectives that ``objective`` names.

        Raises:
            RecipeError: an unknown name, or one given twice.
        """
        names = [name.strip() for name in self.objective.split("+")]
        if len(set(names)) != len(names):
            raise RecipeError(f"objective {self.objective!r} names one twice; give each once.")
        return [self._objective(name) for name in names]

    def _objective(self, name: str) -> "Objective":
        if name not in OBJECTIVES:
            raise RecipeError(
                f"unknown objective {name!r}{nearest(name, OBJECTIVES)} "
                "Objectives are alm and cross_entropy, and alm+cross_entropy for both."
            )
        from crosstok.objectives import ALM, CrossEntropy

        if name == "cross_entropy":
            return CrossEntropy()
        return ALM(
            divergence=self.divergence,
            temperature=self.temperature,
            min_boundary_mass=self.min_boundary_mass,
            debias=self.debias,
            max_slope=None if self.max_slope == float("inf") else self.max_slope,
        )

    def combination(self) -> "Weighting":
        """How the objectives become one loss."""
        from crosstok.objectives import FixedWeights, GradientMagnitude

        if self.weighting == "fixed" or "+" not in self.objective:
            return FixedWeights(weights=self.weights)
        if self.weights:
            raise RecipeError(
                "weights are given, but weighting is gradient_magnitude, under which constant "
                "factors cancel. Set weighting: fixed, or leave weights out."
            )
        return GradientMagnitude()


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


def load_recipe(
    recipe_type: type[Recipe], file: str | Path | None, flags: Mapping[str, Any]
) -> Recipe:
    """A recipe from a YAML file (or none) and the flags that were given; flags win.

    Raises:
        RecipeError: the file is missing or no mapping, a key is unknown (names the nearest one), a
            value has the wrong type, or a required key is missing.
    """
    known = {f.name: f for f in fields(recipe_type)}  # type: ignore[arg-type]
    values = {**(_read_yaml(Path(file), known) if file else {}), **flags}
    _check_known(values, known, "the options")
    missing = [n for n, f in known.items() if f.default is MISSING and n not in values]
    if missing:
        spelled = ", ".join(f"--{name.replace('_', '-')}" for name in missing)
        raise RecipeError(f"missing: {spelled}. Give them as flags, or as keys of a --recipe file.")
    try:
        return pydantic.TypeAdapter(recipe_type).validate_python(values)
    except pydantic.ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, e['loc']))} = {e['input']!r}: {e['msg']}" for e in error.errors()
        )
        raise RecipeError(f"the recipe does not fit: {problems}.") from error


def save_recipe(recipe: Any, file: Path) -> None:
    """Write every field of a recipe, defaults too, so that the file alone repeats the run."""
    file.write_text(recipe_yaml(recipe), encoding="utf-8")


def recipe_yaml(recipe: Any) -> str:
    """The recipe as YAML, in the order of its fields."""
    return yaml.safe_dump(asdict(recipe), sort_keys=False, allow_unicode=True)


def nearest(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"``, or ``"."`` where nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else "."


def _read_yaml(file: Path, known: Iterable[str]) -> dict[str, Any]:
    if not file.is_file():
        raise RecipeError(f"there is no recipe {str(file)!r}; give the path of a YAML file.")
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RecipeError(f"recipe {str(file)!r} is not YAML: {error}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"recipe {str(file)!r} must hold `key: value` lines, nothing else.")
    values = {str(key).replace("-", "_"): value for key, value in values.items()}
    _check_known(values, known, str(file))
    return values


def _check_known(values: Iterable[str], known: Iterable[str], where: str) -> None:
    for key in values:
        if key not in known:
            raise RecipeError(
                f"unknown recipe key {key!r} in {where}{nearest(key, known)} "
                f"Keys are: {', '.join(known)}."
            )
