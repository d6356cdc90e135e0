"""Options that go on to transformers as they are, less those that crosstok sets itself."""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from typing import Any

from crosstok.recipes.fields import RecipeError, nearest

_HELD_OUT = "held-out texts are measured by --eval-data, --eval-every and --eval-texts"
_HUB = "upload the output folder when the run is done, with `hf upload`"
_SHARDED = "losses read whole output matrices, so that a model cannot be cut into shards"
_ROWS = "rows are texts, which become tokens in the collator"

# Arguments of transformers.TrainingArguments that are not for --trainer, and what is.
OWNED_BY_TRAINING = {
    "output_dir": "give --output",
    "max_steps": "give --max-steps",
    "num_train_epochs": "give --epochs",
    "per_device_train_batch_size": "give --batch-size",
    "auto_find_batch_size": "give --batch-size",
    "gradient_accumulation_steps": "give --gradient-accumulation-steps",
    "learning_rate": "give --learning-rate",
    "lr_scheduler_type": "give --lr-scheduler",
    "warmup_steps": "give --warmup-steps",
    "warmup_ratio": "give --warmup-steps",
    "optim": "give --optimizer",
    "weight_decay": "give --weight-decay",
    "max_grad_norm": "give --max-grad-norm",
    "bf16": "give --precision",
    "fp16": "give --precision",
    "seed": "give --seed",
    "data_seed": "give --seed",
    "dataloader_num_workers": "give --num-workers",
    "gradient_checkpointing": "give --gradient-checkpointing",
    "activation_checkpointing": "give --gradient-checkpointing",
    "save_steps": "give --save-every",
    "save_strategy": "give --save-every",
    "logging_steps": "give --log-every",
    "logging_strategy": "give --log-every",
    "report_to": "give --report-to",
    "resume_from_checkpoint": "give --resume",
    "ignore_data_skip": "a resumed run goes on with the row at which it stopped",
    "save_only_model": "a run resumes from its optimizer's state",
    "remove_unused_columns": _ROWS,
    "train_sampling_strategy": _ROWS,
    "group_by_length": _ROWS,
    "length_column_name": _ROWS,
    "label_names": "the labels are made from the ids of both sides",
    "label_smoothing_factor": "the loss is that of --objective",
    "average_tokens_across_devices": "losses are divided by the counts of the global batch",
    "disable_tqdm": "crosstok has a progress bar of its own",
    "use_cpu": "the device is an accelerator where there is one; CUDA_VISIBLE_DEVICES= hides it",
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
    "load_best_model_at_end": "the last model is saved; checkpoints are in the output folder",
    "metric_for_best_model": "the last model is saved; checkpoints are in the output folder",
    "greater_is_better": "the last model is saved; checkpoints are in the output folder",
    "local_rank": "the launcher sets it (`torchrun`, `accelerate launch`)",
}
_PREFIXES = {
    "hub_": _HUB,
    "eval_": _HELD_OUT,
    "per_device_eval_": _HELD_OUT,
    "batch_eval": _HELD_OUT,
}

_FOLDER = "its tokenizer would be of another version; download the version and give the folder"

# Arguments of from_pretrained that are not for --model-options or --teacher-options.
OWNED_BY_LOADING = {
    "trust_remote_code": "give --trust-remote-code",
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
    "device_map": "a model is trained on one device a process; it is for --teacher-options",
    "quantization_config": "its weights are trained and saved whole; it is for --teacher-options",
}


def check_trainer_options(given: Mapping[str, Any]) -> None:
    """Refuse what is no argument of transformers' trainer, or set by another option.

    Raises:
        RecipeError: names the nearest argument, or the option to give instead.
    """
    from transformers import TrainingArguments

    known = [f.name for f in fields(TrainingArguments)]
    for name in given:
        reason = OWNED_BY_TRAINING.get(name) or next(
            (why for prefix, why in _PREFIXES.items() if name.startswith(prefix)), None
        )
        if reason is not None:
            raise RecipeError(f"trainer.{name} is not for --trainer: {reason}.")
        if name not in known:
            raise RecipeError(
                f"transformers.TrainingArguments has no argument {name!r}{nearest(name, known)} "
                "Its documentation lists them."
            )


def check_loading_options(
    given: Mapping[str, Any] | None, key: str, owned: Mapping[str, str] = OWNED_BY_LOADING
) -> None:
    """Refuse arguments of ``from_pretrained`` that crosstok sets itself.

    Raises:
        RecipeError: says why, or which option to give instead.
    """
    for name in given or {}:
        if name in owned:
            raise RecipeError(f"{key}.{name} is not for --{key.replace('_', '-')}: {owned[name]}.")


def check_name(value: str, known: Iterable[str], key: str) -> None:
    """Refuse a name that transformers does not have.

    Raises:
        RecipeError: names the nearest, and all.
    """
    known = sorted(known)
    if value not in known:
        raise RecipeError(
            f"{key} is {value!r}, which transformers does not have{nearest(value, known)} "
            f"It has {', '.join(known)}."
        )
