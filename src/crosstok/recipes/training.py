"""What the recipes of all jobs that train share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from crosstok.choices import OBJECTIVES, LossOn, Precision
from crosstok.plugins import nearest
from crosstok.recipes.data import DataRecipe
from crosstok.recipes.fields import PathName, RecipeError, Strings, option
from crosstok.recipes.former_keys import ALM_KEYS, FormerKey
from crosstok.recipes.held_out import HeldOutRecipe
from crosstok.recipes.objectives import make_objective, objective_names, objective_places
from crosstok.recipes.passed_on import (
    OWNED_OF_TRAINED,
    check_loading_options,
    check_name,
    check_trainer_options,
)
from crosstok.recipes.placing import PlacedRecipe
from crosstok.recipes.saving import SavingRecipe

if TYPE_CHECKING:
    from crosstok.objectives import Objective
    from crosstok.objectives.weighting import Weighting

DEFAULT_LENGTH, DEFAULT_BYTES = 512, 2048  # tokens or bytes of a window or chat
DEFAULT_STEPS = 1000


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe(HeldOutRecipe, PlacedRecipe, DataRecipe, SavingRecipe):
    """Options of every job that trains."""

    former_keys: ClassVar[Mapping[str, FormerKey]] = ALM_KEYS

    model_options: dict[str, Any] | None = option(
        "Arguments of from_pretrained for the trained model.",
        None,
        group="model",
        example="attn_implementation=sdpa",
    )
    chat_template: str | None = option(
        "Chat template instead of the model's own: a file, or plain.", None, group="model"
    )

    loss_on: LossOn = option(
        "Which part of a chat to train on: all, the assistant's turns, or its last turn.",
        "assistant",
        group="data",
    )
    max_length: int | None = option(
        "Tokens in a window or chat: 512, or 2048 bytes of a byte student, if not given.",
        None,
        group="data",
        at_least=1,
    )
    num_workers: int = option(
        "Processes that prepare batches.",
        2,
        group="data",
        on_resume="may change",
        at_least=0,
        at_most=1024,
    )

    objective: str = option(
        f"Objective, or several joined by +: {', '.join(OBJECTIVES)}, or module:Class.",
        "alm",
        group="objective",
    )
    options: dict[str, Any] | None = option(
        "Option of an objective, such as alm.temperature=5.",
        None,
        group="objective",
        example="alm.temperature=5",
    )
    weighting: Literal["gradient_magnitude", "fixed"] = option(
        "How several objectives are combined.", "gradient_magnitude", group="objective"
    )
    weights: dict[str, float | list[float]] | None = option(
        "Weight with --weighting fixed; a list is a schedule.",
        None,
        group="objective",
        at_least=0,
        example="alm=0.5",
    )

    teacher_options: dict[str, Any] | None = option(
        "Arguments of from_pretrained for the teacher.",
        None,
        group="teacher",
        example="dtype=bfloat16",
    )
    teacher_chat_template: Strings | None = option(
        "Chat template instead of the teacher's own; one for all teachers, or one each (or own).",
        None,
        group="teacher",
    )
    teacher_max_length: int | None = option(
        "Tokens in a teacher's window or chat, if not the student's.",
        None,
        group="teacher",
        at_least=1,
    )
    teacher_cache: PathName | None = option(
        "Folder to keep the teacher's scores in; texts already scored there are not scored again.",
        None,
        group="teacher",
        on_resume="may change",  # the same scores, from elsewhere
    )

    lora: bool = option("Train adapters and embeddings, not every weight.", False, group="LoRA")
    lora_rank: int = option("Rank of the adapters.", 64, group="LoRA", at_least=1)
    lora_alpha: int = option(
        "Scale of the adapters, divided by the rank.", 64, group="LoRA", at_least=1
    )

    max_steps: int | None = option(
        f"Optimizer steps; {DEFAULT_STEPS} without --epochs.",
        None,
        group="training",
        at_least=1,
    )
    epochs: float | None = option(
        "Passes over the data, instead of --max-steps.",
        None,
        group="training",
        above=0,
        instead_of="max_steps",
    )
    batch_size: int = option(
        "Windows or chats in a device's micro-batch.", 16, group="training", at_least=1
    )
    gradient_accumulation_steps: int = option(
        "Micro-batches in an optimizer step.", 1, group="training", at_least=1
    )
    learning_rate: float | None = option(
        "Peak learning rate; chosen by model size if not given.", None, group="training", at_least=0
    )
    lr_scheduler: str = option(
        "Schedule of the rate, by transformers' name.", "linear", group="training"
    )
    warmup_steps: int | None = option(
        "Steps until the peak rate; a tenth of all if not given.",
        None,
        group="training",
        at_least=0,
    )
    optimizer: str | None = option(
        "Optimizer, by its name in transformers; AdamW if not given.", None, group="training"
    )
    weight_decay: float = option(
        "Weight decay of the optimizer.", 0.0, group="training", at_least=0
    )
    max_grad_norm: float = option(
        "Clip gradients to this norm; 0: no clipping.", 1.0, group="training", at_least=0
    )
    precision: Precision = option(
        "Precision of forward and backward passes.", "fp32", group="training"
    )
    gradient_checkpointing: bool = option(
        "Recompute activations to save memory.", False, group="training"
    )
    seed: int = option(
        "Seed of the data's order and all other draws.",
        0,
        group="training",
        at_least=0,
        at_most=2**32 - 1,
    )
    trainer: dict[str, Any] | None = option(
        "Any other argument of transformers.TrainingArguments.",
        None,
        group="training",
        example="adam_beta2=0.999",
    )

    output: PathName = option(
        "Folder to write the new model to.", group="output and run", on_resume="may change"
    )
    overwrite: bool = option(
        "Replace what the folder holds.", False, group="output and run", on_resume="may change"
    )
    resume: bool = option(
        "Continue from the last checkpoint in the output folder.",
        False,
        group="output and run",
        on_resume="may change",
    )
    save_every: int = option(
        "Steps between checkpoints.",
        500,
        group="output and run",
        on_resume="may change",
        at_least=1,
    )
    log_every: int = option(
        "Steps between log lines.", 10, group="output and run", on_resume="may change", at_least=1
    )
    report_to: str = option(
        "Where metrics go: tensorboard, wandb, none, ...",
        "tensorboard",
        group="output and run",
        on_resume="may change",
    )
    trust_remote_code: bool = option(
        "Run Python code that comes with a model.", False, group="output and run"
    )

    def __post_init__(self) -> None:
        """Check every value, and how they fit together."""
        super().__post_init__()
        self._check_length()
        check_loading_options(self.model_options, "model_options", OWNED_OF_TRAINED)
        check_loading_options(self.teacher_options, "teacher_options")
        if self.load_best and not self.eval_data:
            raise RecipeError(
                "load_best is given, and there is nothing to choose by. Give eval_data, or leave "
                "load_best out."
            )
        if self.lora_output != "merged" and not self.lora:
            raise RecipeError(
                f"lora_output is {self.lora_output}, and without lora there is no adapter. Add "
                "lora, or leave lora_output out."
            )
        if self.lr_scheduler == "constant" and self.warmup_steps:
            raise RecipeError(
                f"warmup_steps is {self.warmup_steps}, and lr_scheduler is constant, which has no "
                "warmup. Use lr_scheduler constant_with_warmup, or leave warmup_steps out."
            )

    def _check_length(self) -> None:
        if self.epochs is None:
            if self.max_steps is None:
                object.__setattr__(self, "max_steps", DEFAULT_STEPS)
            return
        if self.max_steps is not None:
            raise RecipeError(
                f"max_steps is {self.max_steps} and epochs is {self.epochs:g}; give only one "
                "(in a copy of a recipe, set the other to None)."
            )
        if self.streaming:
            raise RecipeError(
                f"epochs is {self.epochs:g}, and the length of streamed data is not known. "
                "Give max_steps, or leave streaming out."
            )

    @property
    def length(self) -> str:
        """How long the training is, in words."""
        if self.epochs is None:
            return f"{self.max_steps} steps"
        return f"{self.epochs:g} epoch{'' if self.epochs == 1 else 's'}"

    @property
    def student_max_length(self) -> int:
        """Most tokens in a window or chat, for the student."""
        return DEFAULT_LENGTH if self.max_length is None else self.max_length

    def check(self, objectives: "Sequence[Objective] | None" = None) -> None:
        """Check how options fit together, before anything is loaded.

        Args:
            objectives: objectives to train instead of those that the recipe names.

        Raises:
            RecipeError: an option is wrong, or would have no effect.
        """
        objectives = self.objectives() if objectives is None else objectives
        self.combination([objective.name for objective in objectives])
        self.trainer_arguments()
        defaults = {f.name: f.default for f in fields(self)}
        of_lora = ("lora_rank", "lora_alpha")
        changed = [name for name in of_lora if getattr(self, name) != defaults[name]]
        if changed and not self.lora:
            raise RecipeError(
                f"{changed[0]} is {getattr(self, changed[0])}, and without lora it has no effect. "
                f"Add lora, or leave {changed[0]} out."
            )
        if self.teacher_options and not any(o.needs.teacher for o in objectives):
            raise RecipeError(
                f"teacher_options are given, and objective {self.objective} uses no teacher. "
                "Leave teacher_options out."
            )

    def trainer_arguments(self) -> dict[str, Any]:
        """The recipe's arguments for transformers' trainer, by transformers' names.

        Raises:
            RecipeError: transformers lacks one of them, or crosstok sets it itself.
        """
        from transformers import SchedulerType
        from transformers.training_args import OptimizerNames

        check_name(self.lr_scheduler, [s.value for s in SchedulerType], "lr_scheduler")
        given = check_trainer_options(self.trainer or {})
        arguments: dict[str, Any] = {"lr_scheduler_type": self.lr_scheduler, "adam_beta2": 0.95}
        if self.optimizer is not None:
            check_name(self.optimizer, [o.value for o in OptimizerNames], "optimizer")
            arguments["optim"] = self.optimizer
        return {**arguments, **given}

    def objectives(self) -> "list[Objective]":
        """The objectives that ``objective`` names, with their options.

        Raises:
            RecipeError: a name is unknown or occurs twice, or an option is wrong.
        """
        places = objective_places(self.objective)
        names = list(places)
        options = self.options or {}
        unused = sorted(options.keys() - set(names))
        if unused and not isinstance(options[unused[0]], dict):
            raise RecipeError(
                f"options has {unused[0]!r}, which is not an objective; give it as "
                f"--options {names[-1]}.{unused[0]}={options[unused[0]]}."
            )
        if unused:
            raise RecipeError(
                f"options are given for {unused}, but the objectives are {names}; "
                "leave the options out, or add the objective's name to objective."
            )
        return [self._objective(name, places[name], options.get(name) or {}) for name in names]

    def _objective(self, name: str, place: str, options: Any) -> "Objective":
        if not isinstance(options, dict):
            raise RecipeError(
                f"options.{name} is {options!r}; it must be a mapping, such as "
                f"--options {name}.NAME=VALUE."
            )
        return make_objective(place, options)

    def template_of_teacher(self, number: int, num_teachers: int = 1) -> str | None:
        """The chat template for one teacher; None for its own.

        Raises:
            RecipeError: there is neither one template nor one for each teacher.
        """
        templates = self.teacher_chat_template
        if templates is None:
            return None
        if len(templates) not in (1, num_teachers):
            raise RecipeError(
                f"teacher_chat_template has {len(templates)} templates for {num_teachers} "
                "teachers. Give one for all, or one for each (own for the teacher's own)."
            )
        template = templates[number if len(templates) > 1 else 0]
        return None if template == "own" else template

    def combination(self, names: Sequence[str] | None = None) -> "Weighting":
        """How the objectives become one loss.

        Args:
            names: names of the objectives; by default the recipe's.

        Raises:
            RecipeError: weights name something other than the objectives, or the weighting is not
                fixed.
        """
        from crosstok.objectives import FixedWeights, GradientMagnitude

        names = objective_names(self.objective) if names is None else names
        self._check_weights(names)
        if self.weighting == "fixed" or len(names) == 1:
            return FixedWeights(weights=self.weights)
        if self.weights:
            raise RecipeError(
                "weights are given, but weighting is gradient_magnitude, under which constant "
                "factors cancel. Add weighting fixed, or leave weights out."
            )
        return GradientMagnitude()

    def _check_weights(self, names: Sequence[str]) -> None:
        for key in self.weights or {}:
            name = key.partition("@")[0]  # of alm@teacher; teachers have no names yet
            if name not in names:
                raise RecipeError(
                    f"weights has {key!r}, but the objectives are {', '.join(names)}"
                    f"{nearest(name, names)} Leave it out, or add its name to objective."
                )
