"""Transformers' arguments for a recipe."""

import logging
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, TrainingArguments
from transformers.integrations.integration_utils import (
    INTEGRATION_TO_CALLBACK,
    get_available_reporting_integrations,
)

from crosstok.models import find_device
from crosstok.plugins import nearest
from crosstok.recipes import RecipeError, TrainingRecipe
from crosstok.training.arguments import PlacedArguments, default_learning_rate
from crosstok.training.best_checkpoint import load_best_at_end
from crosstok.training.outputs import CHECKPOINTS

log = logging.getLogger("crosstok")

_PACKAGES = {"azure_ml": "azureml-core", "flyte": "flytekit"}  # where they are called otherwise


def training_device(recipe: TrainingRecipe) -> torch.device:
    """Where transformers' trainer will put the model."""
    place = placement(recipe)
    return PlacedArguments(output_dir=recipe.output, report_to=[], **place).device


def placement(recipe: TrainingRecipe) -> dict[str, Any]:
    """The arguments of `PlacedArguments` that say where a recipe is trained.

    Raises:
        ValueError: there is no such device.
    """
    device = find_device(recipe.device)
    return {"use_cpu": device.type == "cpu", "device_index": device.index}


def training_arguments(recipe: TrainingRecipe, model: PreTrainedModel) -> TrainingArguments:
    """Transformers' arguments for a recipe; what is not in it stays at transformers' default."""
    learning_rate = recipe.learning_rate
    if learning_rate is None:
        learning_rate = default_learning_rate(model.num_parameters())
        log.info(
            "learning rate %.2g, chosen for %.1fM parameters; learning_rate sets another",
            learning_rate,
            model.num_parameters() / 1e6,
        )
    steps = recipe.max_steps
    warmup: float | None = recipe.warmup_steps
    if warmup is None:  # of epochs, as a share: how many steps they are is known later
        warmup = 0.1 if steps is None else steps // 10
    checkpointing: dict[str, Any] = (
        {"gradient_checkpointing": True} if recipe.gradient_checkpointing else {}
    )
    output = Path(recipe.output)
    ours: dict[str, Any] = dict(
        output_dir=str(output / CHECKPOINTS),
        **({"num_train_epochs": recipe.epochs} if steps is None else {"max_steps": steps}),
        per_device_train_batch_size=recipe.batch_size,
        gradient_accumulation_steps=recipe.gradient_accumulation_steps,
        learning_rate=learning_rate,
        warmup_steps=warmup,
        weight_decay=recipe.weight_decay,
        max_grad_norm=recipe.max_grad_norm,
        bf16=recipe.precision == "bf16",
        fp16=recipe.precision == "fp16",
        seed=recipe.seed,
        data_seed=recipe.seed,
        dataloader_num_workers=recipe.num_workers,
        remove_unused_columns=False,
        label_names=[],
        save_steps=recipe.save_every,
        save_total_limit=2,
        logging_steps=recipe.log_every,
        disable_tqdm=True,
        **placement(recipe),
        dataloader_pin_memory=torch.cuda.is_available(),
        report_to=[name for name in metric_sinks(recipe) if name != "tensorboard"],
        ddp_find_unused_parameters=False,
        **checkpointing,
    )
    arguments = PlacedArguments(**{**ours, **recipe.trainer_arguments()})
    if recipe.load_best:
        load_best_at_end(arguments)
    return arguments


def metric_sinks(recipe: TrainingRecipe) -> list[str]:
    """Where the metrics of a run go, by transformers' names."""
    return [name.strip() for name in recipe.report_to.split(",") if name.strip() != "none"]


def check_metric_sinks(recipe: TrainingRecipe) -> None:
    """Refuse a place for metrics that transformers does not know, or whose package is missing.

    Raises:
        RecipeError: names it and the next step.
    """
    sinks = metric_sinks(recipe)
    if sinks == ["all"]:
        return
    known, there = list(INTEGRATION_TO_CALLBACK), get_available_reporting_integrations()
    for name in sinks:
        if name not in known:
            raise RecipeError(
                f"report_to is {recipe.report_to!r}, and transformers reports to nothing called "
                f"{name!r}{nearest(name, known)} It knows {', '.join(known)}; or give none."
            )
        if name not in there:
            package = _PACKAGES.get(name, name)
            raise RecipeError(
                f"report_to is {recipe.report_to!r}, and {name} is not installed. Run `pip install "
                f"{package}`, or report to tensorboard (the default) or none."
            )
