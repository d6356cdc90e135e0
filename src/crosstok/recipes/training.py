"""What the recipes of the jobs that train have in common."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from crosstok.choices import LossOn, TextUnit
from crosstok.recipes.fields import RecipeError, Strings, nearest, option
from crosstok.recipes.objectives import (
    OBJECTIVES,
    make_objective,
    objective_names,
    objective_places,
)

if TYPE_CHECKING:
    from crosstok.objectives import Objective
    from crosstok.objectives.weighting import Weighting

ALM_FLAGS = ("temperature", "divergence", "min_boundary_mass", "debias", "max_slope")
DEFAULT_LENGTH, DEFAULT_BYTES = 512, 2048  # tokens or bytes of a window or chat


@dataclass(frozen=True, kw_only=True)
class DataAndOutput:
    """What a job that trains reads and writes."""

    data: str = option("Texts or chats to train on: a data set name, a file or a folder.")
    output: str = option("Folder to write the new model to.")
    overwrite: bool = option("Replace what the output folder holds.", False)


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(DataAndOutput):
    """What every job that trains has in common."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    loss_on: LossOn = option(
        "Of a chat: all of it, assistant turns, or the last of them.", "assistant"
    )
    chat_template: str | None = option(
        "Template of the trained model instead of its own: a file, or plain.", None
    )
    teacher_chat_template: Strings | None = option(
        "The same for the teacher; for several, one each, own for those that keep theirs.", None
    )
    text_field: str = option("Field of the data that holds the text.", "text")
    text_unit: TextUnit = option("What one text of a .txt file is.", "line")
    split: str = option("Split of a data set or folder.", "train")
    streaming: bool = option("Read the data while training instead of before.", False)

    objective: str = option(
        f"Objective, or several joined by +: {', '.join(OBJECTIVES)}, or module:Class.", "alm"
    )
    options: dict[str, Any] | None = option(
        "Options of an objective, such as strict.top_k=32.", None
    )
    weighting: Literal["gradient_magnitude", "fixed"] = option(
        "How several objectives are combined.", "gradient_magnitude"
    )
    weights: dict[str, float | list[float]] | None = option(
        "Weight by objective, for --weighting fixed; a list is a schedule over the run.", None
    )
    temperature: float = option("ALM: tau; 5 is the paper's later advice, inf the limit.", 100.0)
    divergence: Literal["kl", "total_variation"] = option("ALM: form of the divergence.", "kl")
    min_boundary_mass: float = option("ALM: gamma, what a chunk end needs; 0: no merging.", 0.1)
    debias: bool = option("ALM: multiply chunks by their boundary mass.", True)
    max_slope: float = option("ALM: largest pull on an over-confident chunk; inf: none.", 10.0)

    teacher_cache: str | None = option(
        "Folder that keeps what the teacher says: it is asked, and loaded, for the rest only.", None
    )

    lora: bool = option("Train LoRA adapters and the embeddings instead of every weight.", False)
    lora_rank: int = option("Rank of the adapters.", 64)
    lora_alpha: int = option("Scale of the adapters: alpha / rank.", 64)

    max_steps: int = option("Optimizer steps.", 1000)
    batch_size: int = option("Windows of text, or chats, in a micro-batch, on each device.", 16)
    gradient_accumulation_steps: int = option("Micro-batches in an optimizer step.", 1)
    max_length: int | None = option(
        "Tokens of a window or chat, on either side (512); bytes for --tokenizer bytes (2048).",
        None,
    )
    teacher_max_length: int | None = option(
        "Teacher's tokens of it, if another number; for bytes, what as many bytes are.", None
    )
    learning_rate: float | None = option("Peak rate; chosen by model size if not given.", None)
    warmup_steps: int | None = option("Steps up to the peak; a tenth of all if not given.", None)
    weight_decay: float = option("AdamW's weight decay.", 0.0)
    max_grad_norm: float = option("Gradient norms above this are scaled down; 0: never.", 1.0)
    precision: Literal["fp32", "bf16", "fp16"] = option("Arithmetic of the passes.", "fp32")
    gradient_checkpointing: bool = option("Recompute activations to save memory.", False)
    seed: int = option("Of the order of the data and of every other draw.", 0)

    num_workers: int = option("Processes that prepare batches.", 2)

    eval_data: Strings | None = option(
        "Texts to measure bits per byte on while training, as for --data; may be repeated.", None
    )
    eval_split: str = option("Split of held-out data sets and folders.", "validation")
    eval_every: int = option("Steps between measurements on held-out texts.", 100)
    eval_texts: int = option("Texts of each that are used, from its beginning.", 100)

    save_every: int = option("Steps between checkpoints.", 500)
    log_every: int = option("Steps between log lines.", 10)
    report_to: str = option("Where metrics go: tensorboard, wandb, ..., or none.", "tensorboard")
    resume: bool = option("Go on from the last checkpoint in the output folder.", False)
    trust_remote_code: bool = option("Run Python code that comes with a model.", False)

    def __post_init__(self) -> None:
        """One name is a list of one, in Python as in YAML."""
        for name in ("teacher", "teacher_chat_template", "eval_data"):
            value = getattr(self, name, None)
            if isinstance(value, str):
                object.__setattr__(self, name, [value])

    @property
    def student_max_length(self) -> int:
        """Tokens of a window or chat on the student's side."""
        return DEFAULT_LENGTH if self.max_length is None else self.max_length

    def objectives(self) -> "list[Objective]":
        """The objectives that ``objective`` names, with their options.

        Raises:
            RecipeError: an unknown name, one given twice, or an option that cannot be.
        """
        places = objective_places(self.objective)
        names = list(places)
        options = self.options or {}
        unused = sorted(options.keys() - set(names))
        if unused and not isinstance(options[unused[0]], dict):
            raise RecipeError(
                f"option {unused[0]!r} names no objective; give it as "
                f"--options {names[-1]}.{unused[0]}={options[unused[0]]}."
            )
        if unused:
            raise RecipeError(
                f"options are given for {unused}, but the objectives are {names}; "
                "take them out, or add the objective to --objective."
            )
        if "alm" not in names:
            self._refuse_options_of_alm()
        return [self._objective(name, places[name], options.get(name) or {}) for name in names]

    def _refuse_options_of_alm(self) -> None:
        defaults = {f.name: f.default for f in fields(type(self))}
        for name in ALM_FLAGS:
            if getattr(self, name) != defaults[name]:
                raise RecipeError(
                    f"{name} = {getattr(self, name)!r} is an option of alm, and the objective is "
                    f"{self.objective}; options of others are given as --options OBJECTIVE.{name}="
                    "VALUE."
                )

    def _objective(self, name: str, place: str, options: Any) -> "Objective":
        if not isinstance(options, dict):
            raise RecipeError(
                f"options.{name} is {options!r}; it must be a mapping, such as "
                f"--options {name}.NAME=VALUE."
            )
        return make_objective(place, {**self._flags_of(place), **options})

    def _flags_of(self, name: str) -> dict[str, Any]:
        """Options that have a flag of their own."""
        if name != "alm":
            return {}
        return {
            "divergence": self.divergence,
            "temperature": self.temperature,
            "min_boundary_mass": self.min_boundary_mass,
            "debias": self.debias,
            "max_slope": None if self.max_slope == float("inf") else self.max_slope,
        }

    def template_of_teacher(self, number: int, num_teachers: int = 1) -> str | None:
        """The chat template given for one teacher; None for its own.

        Raises:
            RecipeError: there are neither one nor as many templates as teachers.
        """
        given = self.teacher_chat_template
        if given is None:
            return None
        if len(given) not in (1, num_teachers):
            raise RecipeError(
                f"{len(given)} teacher chat templates for {num_teachers} teachers: give one for "
                "all, or one each, with own for those that keep theirs."
            )
        template = given[number if len(given) > 1 else 0]
        return None if template == "own" else template

    def combination(self, names: Sequence[str] | None = None) -> "Weighting":
        """How the objectives become one loss.

        Args:
            names: of the objectives; those of the recipe if not given.

        Raises:
            RecipeError: weights of something else than the objectives, or without fixed weighting.
        """
        from crosstok.objectives import FixedWeights, GradientMagnitude

        names = objective_names(self.objective) if names is None else names
        self._check_weights(names)
        if self.weighting == "fixed" or len(names) == 1:
            return FixedWeights(weights=self.weights)
        if self.weights:
            raise RecipeError(
                "weights are given, but weighting is gradient_magnitude, under which constant "
                "factors cancel. Add --weighting fixed, or leave the weights out."
            )
        return GradientMagnitude()

    def _check_weights(self, names: Sequence[str]) -> None:
        for given in self.weights or {}:
            name = given.partition("@")[0]  # of alm@teacher; teachers have no names yet
            if name not in names:
                raise RecipeError(
                    f"--weights has {given!r}, but the objectives are {', '.join(names)}"
                    f"{nearest(name, names)} Take it out, or add the objective to --objective."
                )
