"""Options passed on to transformers, and the ones that crosstok sets itself."""

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any, get_type_hints

import pydantic

from crosstok.plugins import nearest
from crosstok.recipes.fields import RecipeError

_HELD_OUT = "held-out texts are measured with eval_data, eval_every and eval_texts"
_HUB = "give push_to_hub"
_SHARDED = "losses read whole output matrices, so a model cannot be sharded"
_ROWS = "rows are texts, and the collator tokenizes them"

# Arguments of transformers.TrainingArguments that `trainer` does not take, and why.
OWNED_BY_TRAINING = {
    "output_dir": "give output",
    "max_steps": "give max_steps",
    "num_train_epochs": "give epochs",
    "per_device_train_batch_size": "give batch_size",
    "auto_find_batch_size": "give batch_size",
    "gradient_accumulation_steps": "give gradient_accumulation_steps",
    "learning_rate": "give learning_rate",
    "lr_scheduler_type": "give lr_scheduler",
    "warmup_steps": "give warmup_steps",
    "warmup_ratio": "give warmup_steps",
    "optim": "give optimizer",
    "weight_decay": "give weight_decay",
    "max_grad_norm": "give max_grad_norm",
    "bf16": "give precision",
    "fp16": "give precision",
    "seed": "give seed",
    "data_seed": "give seed",
    "dataloader_num_workers": "give num_workers",
    "gradient_checkpointing": "give gradient_checkpointing",
    "activation_checkpointing": "give gradient_checkpointing",
    "save_steps": "give save_every",
    "save_strategy": "give save_every",
    "logging_steps": "give log_every",
    "logging_strategy": "give log_every",
    "report_to": "give report_to",
    "resume_from_checkpoint": "give resume",
    "ignore_data_skip": "a resumed run continues with the row at which it stopped",
    "save_only_model": "a run resumes from its optimizer's state",
    "remove_unused_columns": _ROWS,
    "train_sampling_strategy": _ROWS,
    "group_by_length": _ROWS,
    "length_column_name": _ROWS,
    "label_names": "the labels are made from the ids of both sides",
    "label_smoothing_factor": "objective sets the loss",
    "average_tokens_across_devices": "losses are divided by the counts of the global batch",
    "disable_tqdm": "crosstok has its own progress bar",
    "use_cpu": "give device",
    "parallelism_config": _SHARDED,
    "fsdp": _SHARDED,
    "fsdp_config": _SHARDED,
    "deepspeed": _SHARDED,
    "push_to_hub": _HUB,
    "do_train": "every run trains",
    "do_predict": _HELD_OUT,
    "do_eval": _HELD_OUT,
    "prediction_loss_only": _HELD_OUT,
    "include_for_metrics": _HELD_OUT,
    "load_best_model_at_end": "give load_best",
    "metric_for_best_model": "give load_best",
    "greater_is_better": "give load_best",
    "local_rank": "the launcher sets it (`torchrun`, `accelerate launch`)",
}
_PREFIXES = {
    "hub_": _HUB,
    "eval_": _HELD_OUT,
    "per_device_eval_": _HELD_OUT,
    "batch_eval": _HELD_OUT,
}

_FOLDER = "the tokenizer would be of another version; download that version and give the folder"

# Arguments of from_pretrained that `model_options` and `teacher_options` do not take.
OWNED_BY_LOADING = {
    "trust_remote_code": "give trust_remote_code",
    "torch_dtype": "it is called dtype",
    "config": "a model keeps its own configuration",
    "state_dict": "a model keeps its own weights",
    "output_loading_info": "crosstok checks itself that no weight is missing",
    "ignore_mismatched_sizes": "a model is loaded whole or not at all",
    "revision": _FOLDER,
    "code_revision": _FOLDER,
    "subfolder": _FOLDER,
    "tp_plan": _SHARDED,
    "tp_size": _SHARDED,
    "device_mesh": _SHARDED,
}
OWNED_OF_TRAINED = {
    **OWNED_BY_LOADING,
    "device_map": "a model is trained on one device per process; only teacher_options takes it",
    "quantization_config": "its weights are trained and saved whole; only teacher_options takes it",
}


def check_trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check the arguments for transformers' trainer.

    Returns:
        Them, with numbers that YAML reads as text (``1e-6``) as numbers.

    Raises:
        RecipeError: transformers has no such argument (names the nearest), or crosstok sets it
            itself (says which option to give instead).
    """
    from transformers import TrainingArguments

    known = [f.name for f in fields(TrainingArguments)]
    for name in given:
        reason = OWNED_BY_TRAINING.get(name) or next(
            (why for prefix, why in _PREFIXES.items() if name.startswith(prefix)), None
        )
        if reason is not None:
            raise RecipeError(f"trainer does not take {name}: {reason}.")
        if name not in known:
            raise RecipeError(
                f"transformers.TrainingArguments has no argument {name!r}{nearest(name, known)} "
                "Its documentation lists them."
            )
    read = {name: _number(value) for name, value in given.items()}
    hints = get_type_hints(TrainingArguments)
    for name, value in read.items():
        _check_trainer_value(name, value, hints[name])
    return read


# Limits of numbers that the optimizer would refuse only once the models are loaded.
_SHARES = ("adam_beta1", "adam_beta2")


def _check_trainer_value(name: str, value: Any, hint: Any) -> None:
    """Check the type of an argument, and that a number is finite and not below 0.

    Raises:
        RecipeError: the value does not fit; says what does.
    """
    try:
        pydantic.TypeAdapter(hint, config=_ANY_TYPE).validate_python(value)
    except pydantic.ValidationError as error:
        wanted = error.errors()[-1]["msg"].removeprefix("Input should be ")
        raise RecipeError(f"trainer.{name} is {value!r}; it must be {wanted}.") from error
    if not isinstance(value, int | float) or isinstance(value, bool):
        return
    if not math.isfinite(value):
        raise RecipeError(f"trainer.{name} is {value}; it must be a finite number.")
    if name in _SHARES and not 0 <= value < 1:
        raise RecipeError(f"trainer.{name} is {value}; it must be from 0 to below 1.")
    if name.startswith("adam_") and value < 0:
        raise RecipeError(f"trainer.{name} is {value}; it must be at least 0.")


_ANY_TYPE = pydantic.ConfigDict(arbitrary_types_allowed=True)


def _number(value: Any) -> Any:
    is_number = isinstance(value, str) and re.fullmatch(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+", value)
    return float(value) if is_number else value


def check_loading_options(
    given: Mapping[str, Any] | None, key: str, owned: Mapping[str, str] = OWNED_BY_LOADING
) -> None:
    """Check that no argument of ``from_pretrained`` is one that crosstok sets itself.

    Raises:
        RecipeError: one is; says why, or which option to give instead.
    """
    for name in given or {}:
        if name in owned:
            raise RecipeError(f"{key} does not take {name}: {owned[name]}.")


def check_name(value: str, known: Iterable[str], key: str) -> None:
    """Check that transformers has a name.

    Raises:
        RecipeError: it does not; lists all names and the nearest one.
    """
    known = sorted(known)
    if value not in known:
        raise RecipeError(
            f"{key} is {value!r}, which transformers does not have{nearest(value, known)} "
            f"It has {', '.join(known)}."
        )
