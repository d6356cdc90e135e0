"""Two models and a data set: a trainer for those who need no recipe."""

import copy
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import TrainingArguments, set_seed

from crosstok.alignment import ENDS_OF_CHATS
from crosstok.choices import LossOn
from crosstok.corpora import as_examples
from crosstok.corpora.in_memory import Rows
from crosstok.models import evaluating, extra_inputs, unwrap_model
from crosstok.models.saved_dtypes import save_weights
from crosstok.objectives import FixedWeights, GradientMagnitude, Objective
from crosstok.objectives.choosing import choose
from crosstok.objectives.weighting import Weighting
from crosstok.teachers import LocalTeacher, short_name
from crosstok.training.arguments import default_arguments, usable_arguments
from crosstok.training.collator import AlignedCollator
from crosstok.training.given_models import bring_to, check_two_models, encoder_of, loaded_model
from crosstok.training.meters import Meters
from crosstok.training.outputs import save_outputs
from crosstok.training.student import Student, compute_dtype
from crosstok.training.terms import MODULES, detach_modules
from crosstok.training.trainer import DistillationTrainer
from crosstok.training.training_rows import (
    are_chats,
    check_something_is_learned,
    stop_where_turns_end,
    training_rows,
)

log = logging.getLogger("crosstok")

_NOT_TAKEN = {
    "data_collator": "texts and chats are collated here",
    "compute_loss_func": "the loss is that of the objectives",
    "compute_metrics": "no logits are made",
    "preprocess_logits_for_metrics": "no logits are made",
    "model_init": "the model is model",
}
_RATES = ("_per_second", "_gib")


class CrossTokenizerTrainer(DistillationTrainer):
    """Teaches a student from a teacher with another tokenizer: two models and a data set will do.

    A trainer of transformers in all else: ``train``, ``evaluate``, ``save_model``, checkpoints,
    callbacks. Models that are named here are loaded: the student in fp32, the teacher in the
    precision of ``args``. Models that are passed are taken as they are; the teacher is frozen.

    Args:
        model: the student, or its name or folder; possibly a PEFT model.
        teacher_model: the teacher, or its name or folder.
        train_dataset: a ``Dataset`` or ``IterableDataset`` with the columns ``messages``,
            ``prompt`` and ``completion``, or ``text``; or a list of texts or of such rows. Texts
            are cut into windows of ``max_length`` tokens; of a chat, what is longer is cut off.
        args: of transformers; None: those of ``crosstok distil`` without options (1000 steps of
            16 rows). A copy is used, with ``remove_unused_columns=False``.
        processing_class: the student's fast tokenizer; None: the one it was saved with.
        teacher_processing_class: the same for the teacher.
        eval_dataset: as ``train_dataset``, or several by name.
        objectives: names joined by ``+``, one objective, or several; default options for names.
        weighting: of several objectives; `GradientMagnitude` if left out.
        max_length: tokens of a row, on either side.
        teacher_max_length: the teacher's, if another number.
        loss_on: which part of a chat is learned: assistant turns, the last of them, or all.
        kwargs: for ``transformers.Trainer``: ``callbacks``, ``optimizers``, ...

    Raises:
        ValueError: a model, tokenizer, data set, objective or option cannot be used; says why.
    """

    def __init__(  # noqa: PLR0913 (what the trainers of TRL take, and the options of the collator)
        self,
        model: str | nn.Module,
        teacher_model: str | nn.Module,
        train_dataset: Rows,
        args: TrainingArguments | None = None,
        processing_class: Any = None,
        teacher_processing_class: Any = None,
        eval_dataset: Rows | Mapping[str, Rows] | None = None,
        objectives: str | Objective | Sequence[Objective] = "alm",
        weighting: Weighting | None = None,
        max_length: int = 512,
        teacher_max_length: int | None = None,
        loss_on: LossOn = "assistant",
        **kwargs: Any,
    ) -> None:
        _refuse(kwargs)
        chosen = choose(objectives)
        student_model, args = _student_and_arguments(model, args)
        other_model = loaded_model(teacher_model, _teacher_dtype(args))
        check_two_models(student_model, other_model)
        own = encoder_of(student_model, processing_class, "processing_class")
        other = encoder_of(other_model, teacher_processing_class, "teacher_processing_class")
        collator = AlignedCollator(
            own, (other,), max_length, teacher_max_length, loss_on, extra_inputs(student_model)
        )
        self._collator = collator
        rows = self._rows(train_dataset, "train_dataset")
        check_something_is_learned(collator, rows)
        student = Student(unwrap_model(student_model), own.encoder)
        student.adapters = student_model if hasattr(student_model, "merge_and_unload") else None
        self._are_chats = are_chats(rows)
        if self._are_chats:
            student.ends = ENDS_OF_CHATS
        teacher = LocalTeacher(
            bring_to(unwrap_model(other_model), args.device), other.encoder.byte_vocab
        )
        several = GradientMagnitude() if len(chosen) > 1 else FixedWeights()
        super().__init__(
            student,
            [teacher],
            chosen,
            several if weighting is None else weighting,
            args,
            train_dataset=rows,
            eval_dataset=self._eval_rows(eval_dataset),
            data_collator=collator,
            processing_class=own.encoder.tokenizer,
            **kwargs,
        )

    def evaluate(
        self,
        eval_dataset: Any = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss, bits per byte and the objectives' metrics on held-out rows, each divided once.

        Args:
            eval_dataset: in place of that of the trainer; rows, or several by name.
            ignore_keys: not used.
            metric_key_prefix: what the names of the metrics begin with.

        Raises:
            ValueError: there is no data set.
        """
        rows = self.eval_dataset if eval_dataset is None else self._eval_rows(eval_dataset)
        if rows is None:
            raise ValueError("there is no eval_dataset; pass one here or to the trainer.")
        if not isinstance(rows, Mapping):
            metrics = self._evaluate_rows(rows, metric_key_prefix)
        else:
            metrics = {}
            for name, part in rows.items():
                metrics |= self._evaluate_rows(part, f"{metric_key_prefix}_{name}")
        self.control = self.callback_handler.on_evaluate(
            self.args, self.state, self.control, metrics
        )
        return metrics

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Write the model as a plain folder that transformers loads without crosstok.

        Adapters are merged (in a copy), modules of objectives are left out, and after training on
        chats ``generate`` stops where a turn ends. Weights are saved in the dtype they have.
        Models that are spread over devices (FSDP, DeepSpeed) are saved as transformers saves them.

        Raises:
            SaveError: the disk is full or cannot be written.
        """
        if _internal_call or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)
            return
        if not self.args.should_save:
            return
        with self._plain_model() as model:
            if self._are_chats:
                stop_where_turns_end(model, self.student.encoder.byte_vocab)
            folder = Path(output_dir or self.args.output_dir or "")
            write = partial(save_weights, model=model, dtypes=None)
            save_outputs(folder, write, self.student.encoder.tokenizer, {})

    @contextmanager
    def _plain_model(self) -> Iterator[Any]:
        """The student without adapters and projectors, for as long as it is saved."""
        model: Any = self.student.model
        modules = getattr(model, MODULES, None)
        detach_modules(model)
        in_training = vars(model.config).copy()  # transformers' trainer switches the cache off
        generation_config = model.generation_config
        self.student.restore_settings()
        try:
            adapters = self.student.adapters
            yield model if adapters is None else copy.deepcopy(adapters).merge_and_unload()
        finally:
            vars(model.config).update(in_training)
            model.generation_config = generation_config
            if modules is not None:
                model.add_module(MODULES, modules)

    def _rows(self, given: Rows, option: str) -> Any:
        collator = self._collator
        teacher_length = collator.teacher_max_length or collator.max_length
        sides = (collator.student, *collator.teachers)
        lengths = (collator.max_length, teacher_length)
        return training_rows(as_examples(given, option), sides, lengths)

    def _eval_rows(self, given: Any) -> Any:
        if isinstance(given, Mapping):
            return {name: self._rows(part, f"eval_dataset {name}") for name, part in given.items()}
        return None if given is None else self._rows(given, "eval_dataset")

    @torch.no_grad()
    def _evaluate_rows(self, rows: Any, prefix: str) -> dict[str, float]:
        training = self.meters, self._counts
        self.meters, self._counts = Meters(), dict.fromkeys(self.terms, torch.ones(()))
        try:
            with evaluating(self.student.model):
                for batch in self.get_eval_dataloader(rows):
                    inputs = self._with_teachers(self._prepare_inputs(batch))
                    self._meter(inputs)
                    with self.compute_loss_context_manager():
                        self._losses(self.student.model, inputs)
            means = self.meters.drain(self._over_ranks)
        finally:
            self.meters, self._counts = training
        loss = sum(self._weights[name] * means.get(f"loss_{name}", 0.0) for name in self.terms)
        metrics = {f"{prefix}_loss": loss} | {
            f"{prefix}_{name}": mean for name, mean in means.items() if not name.endswith(_RATES)
        }
        self.log(dict(metrics))
        return metrics


def _refuse(kwargs: Mapping[str, Any]) -> None:
    for name, why in _NOT_TAKEN.items():
        if kwargs.get(name) is not None:
            raise ValueError(f"{name} is not taken: {why}. Leave it out.")


def _student_and_arguments(
    model: str | nn.Module, args: TrainingArguments | None
) -> tuple[Any, TrainingArguments]:
    """The student, drawn and loaded under the seed of the arguments."""
    if args is not None:
        set_seed(args.seed)
    student = loaded_model(model)
    inner = unwrap_model(student)
    if isinstance(model, str):
        student.float()
    elif inner.dtype in (torch.bfloat16, torch.float16):
        log.warning(
            "the student's weights are %s, in which small steps are lost; pass model.float(), and "
            "bf16=True in args for the passes",
            inner.dtype,
        )
    if args is None:
        args = default_arguments(short_name(inner.name_or_path), inner.num_parameters())
        set_seed(args.seed)
    return student, usable_arguments(args)


def _teacher_dtype(args: TrainingArguments) -> torch.dtype:
    return compute_dtype("bf16" if args.bf16 else "fp16" if args.fp16 else "fp32", args.device)
