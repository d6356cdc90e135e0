"""Transformers' arguments, where a person gives none, and what of a person's is changed."""

import copy
import logging
from dataclasses import MISSING, Field, dataclass, field, fields
from functools import cached_property
from typing import Any

import torch
from transformers import TrainingArguments

from crosstok.models import default_device

log = logging.getLogger("crosstok")

_STEPS = 1000


@dataclass
class PlacedArguments(TrainingArguments):
    """Transformers' arguments, on one device: the one of a number, where there are several.

    Without a launcher transformers would spread every batch over all GPUs (``nn.DataParallel``),
    which losses that read whole output matrices cannot follow.

    Raises:
        ValueError: a launcher has chosen the devices already.
    """

    device_index: int | None = field(
        default=None, metadata={"help": "Number of the accelerator to train on."}
    )

    @cached_property
    def _setup_devices(self) -> torch.device:
        device: torch.device = super()._setup_devices
        self._n_gpu = min(self._n_gpu, 1)
        state: Any = self.distributed_state
        if self.device_index is not None and device.index != self.device_index:
            if state.num_processes > 1:
                raise ValueError(
                    f"device has the number {self.device_index}, and there are "
                    f"{state.num_processes} processes, each with a device of its own. Leave device "
                    "out."
                )
            device = torch.device(device.type, self.device_index)
            torch.accelerator.set_device_index(self.device_index)
        if state.num_processes == 1:
            state.device = device  # which accelerate may have read from the environment
        return device


def default_arguments(name: str, num_parameters: int) -> TrainingArguments:
    """The arguments of ``crosstok distil`` without options.

    Args:
        name: of the student; checkpoints go to the folder ``NAME-distilled``.
        num_parameters: of the student, by which the learning rate is chosen.
    """
    return TrainingArguments(
        output_dir=f"{name}-distilled",
        max_steps=_STEPS,
        per_device_train_batch_size=16,
        per_device_eval_batch_size=16,
        learning_rate=default_learning_rate(num_parameters),
        lr_scheduler_type="linear",
        warmup_steps=_STEPS // 10,
        adam_beta2=0.95,
        seed=0,
        data_seed=0,
        save_total_limit=2,
        logging_steps=10,
        use_cpu=default_device().type == "cpu",
        dataloader_pin_memory=torch.cuda.is_available(),
        remove_unused_columns=False,
        report_to="none",
    )


def usable_arguments(args: TrainingArguments) -> TrainingArguments:
    """A copy of a person's arguments with what the rows need; the log says what is changed.

    ``remove_unused_columns`` is switched off: it drops every column that the model's ``forward``
    does not name, which are all columns of texts and chats. Options that nothing here reads
    (``label_smoothing_factor``, the own options of a subclass such as TRL's ``SFTConfig``) are
    named in a warning if they are set.
    """
    changed = copy.copy(args)
    if changed.remove_unused_columns:
        changed.remove_unused_columns = False
        log.info("remove_unused_columns is set to False: the collator reads the columns itself")
    known = {field.name for field in fields(TrainingArguments)} - {"label_smoothing_factor"}
    unread = [f.name for f in fields(args) if f.name not in known and _is_set(args, f)]
    if unread:
        log.warning(
            "options of %s that are not read here: %s", type(args).__name__, ", ".join(unread)
        )
    return changed


def default_learning_rate(num_parameters: int) -> float:
    """The paper's 1e-5 for 2.6 billion parameters; more for smaller models, at most 1e-3."""
    return float(min(1e-3, max(1e-5, 1e-5 * (2.6e9 / num_parameters) ** 0.75)))


def _is_set(args: TrainingArguments, option: "Field[Any]") -> bool:
    factory: Any = option.default_factory
    default = option.default if factory is MISSING else factory()
    return default is not MISSING and bool(getattr(args, option.name) != default)
