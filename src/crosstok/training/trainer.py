"""The training loop is transformers' own; here is what a step of cross-tokenizer training adds.

Losses are sums. Before the student runs, the teacher has scored every micro-batch of the optimizer
step (two numbers a token), so the divisor of the whole global batch is known, and

    loss of a micro-batch = sum over objectives of  weight * total / (count of the global batch)

adds up to the same gradient however the batch is cut.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import Trainer, TrainingArguments

from crosstok.models import Scores, token_scores
from crosstok.objectives import AlignedBatch, LossSum, Objective
from crosstok.objectives.weighting import Weighting, gradient, last_layer_parameters
from crosstok.teachers import Teacher, check_needs
from crosstok.training.checkpoints import mark_complete, saving
from crosstok.training.meters import Meters
from crosstok.training.student import Student

_NORMS_FILE = "objective_norms.json"


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite: training stops; the last checkpoint stands."""


class DistillationTrainer(Trainer):
    """Trains a student on aligned batches against a teacher, by any number of objectives.

    Args:
        student: model, encoder and masks.
        teacher: scores the same texts; None if no objective needs one.
        objectives: at least one.
        weighting: how they are combined.
        args: transformers' own arguments.
        train_dataset: rows for the collator.
        data_collator: rows to the tensors of an ``AlignedBatch``.
        kwargs: passed on to ``transformers.Trainer``.

    Raises:
        ValueError: an objective needs what the teacher cannot give.
    """

    def __init__(
        self,
        student: Student,
        teacher: Teacher | None,
        objectives: Sequence[Objective],
        weighting: Weighting,
        args: TrainingArguments,
        **kwargs: Any,
    ) -> None:
        check_needs(objectives, teacher)
        self.student, self.teacher = student, teacher
        self.objectives = {objective.name: objective for objective in objectives}
        self.weighting = weighting
        self.meters = Meters()
        self._norms: dict[str, float] = dict.fromkeys(self.objectives, 1.0)
        self._gradients: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}
        self._weights = weighting(self._norms)
        self._norms_are_measured = False
        self._is_measuring = False
        super().__init__(model=student.model, args=args, **kwargs)
        self.loss_is_scaled_for_ga = True  # by the counts of the global batch
        self._needs_boundary = any(o.needs.boundary_mass for o in objectives)
        student.boundary_mask = student.boundary_mask.to(self.args.device)
        if student.valid_ids is not None:
            student.valid_ids = student.valid_ids.to(self.args.device)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """Collect the micro-batches of an optimizer step, let the teacher score them, and count."""
        batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        if not batches:
            return batches, None
        scored = [self._with_teacher(self._prepare_inputs(batch)) for batch in batches]
        counts = torch.zeros(len(self.objectives), dtype=torch.float64, device=device)
        for inputs in scored:
            batch, teacher = _unpack(inputs)
            self.meters.add_batch(batch, inputs["cut_bytes"])
            counts += torch.stack([o.count(batch, teacher) for o in self.objectives.values()])
        counts = self._over_ranks(counts).clamp(min=1)
        self._counts = dict(zip(self.objectives, counts, strict=True))
        if self.weighting.measures_gradients and not self._norms_are_measured:
            self._measure_norms(scored)
        self._is_measuring = (
            self.weighting.measures_gradients
            and self.state.global_step % self.weighting.measure_every == 0
        )
        self._weights = self.weighting(self._norms)
        return scored, counts.sum()

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """This micro-batch's share of the loss of the global batch."""
        losses = self._losses(model, inputs)
        if self._is_measuring:
            self._add_gradients(losses)
        loss = torch.stack([self._weights[name] * losses[name] for name in losses]).sum()
        self._check_finite(loss, inputs)
        return (loss, None) if return_outputs else loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """One forward and backward pass; after the last of a step the norms are renewed."""
        loss: Tensor = super().training_step(model, *args, **kwargs)
        if self._is_measuring and self.accelerator.sync_gradients:
            self._update_norms()
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the objectives' metrics and the rates since the last log."""
        if "loss" in logs:
            logs = {**logs, **self.meters.drain(self._over_ranks)}
            if len(self.objectives) > 1:
                logs |= {f"weight_{name}": weight for name, weight in self._weights.items()}
        super().log(logs, start_time)

    def train_to_end(self, checkpoint: str | None) -> dict[str, float]:
        """Train up to ``max_steps``, from a checkpoint or from the start, and sum up.

        Returns:
            Steps, seconds, and the means of the logged metrics over the last tenth of the run.
        """
        outcome = self.train(resume_from_checkpoint=checkpoint)
        logged = [entry for entry in self.state.log_history if "loss" in entry]
        last = logged[-max(1, len(logged) // 10) :]
        means = {
            name: sum(entry[name] for entry in last) / len(last)
            for name in (last[0] if last else {})
            if name not in ("step", "epoch", "learning_rate")
        }
        seconds = outcome.metrics.get("train_runtime", 0.0)
        return {"steps": self.state.global_step, "seconds": seconds, **means}

    def _with_teacher(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.teacher is None:
            return inputs
        with self.compute_loss_context_manager():
            scores = self.teacher.scores(inputs["teacher_ids"], inputs["teacher_attention_mask"])
        inputs["teacher_token_logprobs"] = scores.token_logprobs
        if scores.boundary_logprobs is not None:
            inputs["teacher_boundary_logprobs"] = scores.boundary_logprobs
        return inputs

    def _losses(self, model: nn.Module, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """Every objective's loss, divided by its global count (times ranks: DDP takes the mean)."""
        batch, teacher = _unpack(inputs)
        scores = token_scores(
            model,
            self.student.head,
            batch.student_ids,
            batch.student_attention_mask,
            self.student.boundary_mask if self._needs_boundary else None,
            valid_ids=self.student.valid_ids,
        )
        losses = {}
        for name, objective in self.objectives.items():
            loss_sum: LossSum = objective(batch, scores, teacher)
            self.meters.add_loss(name, loss_sum)
            losses[name] = loss_sum.total * (self.accelerator.num_processes / self._counts[name])
        self.meters.add_student(batch, scores)
        return losses

    def _measure_norms(self, scored: list[dict[str, Tensor]]) -> None:
        """Before the first step: the norms of its own batch, by a pass that updates nothing."""
        meters, self.meters = self.meters, Meters()
        self.student.model.train()
        for inputs in scored:
            with self.compute_loss_context_manager():
                self._add_gradients(self._losses(self.student.model, inputs))
        self._update_norms()
        self.meters = meters

    def _add_gradients(self, losses: dict[str, Tensor]) -> None:
        parameters = last_layer_parameters(self.student.model)
        for name, loss in losses.items():
            part = gradient(loss, parameters)
            self._gradients[name] = (
                self._gradients[name] + part if name in self._gradients else part
            )

    def _update_norms(self) -> None:
        for name, grad in self._gradients.items():
            mean = self._over_ranks(grad) / self.accelerator.num_processes
            self._norms[name] = float(mean.norm())
        self._gradients = {}
        self._norms_are_measured = True

    def _over_ranks(self, value: Tensor) -> Tensor:
        reduced: Tensor = self.accelerator.reduce(value, reduction="sum")
        return reduced

    def _check_finite(self, loss: Tensor, inputs: dict[str, Tensor]) -> None:
        if bool(torch.isfinite(loss)):
            return
        rows = ", ".join(str(row) for row in inputs["rows"].tolist())
        raise NonFiniteLossError(
            f"the loss is {float(loss)} at step {self.state.global_step + 1}, on the data rows "
            f"{rows}. "
            "Nothing was changed by this step, and the last checkpoint stands. Lower "
            "--learning-rate or use --precision fp32, then continue with --resume."
        )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir or "") / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)
            mark_complete(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self._norms_are_measured and self.args.should_save:
            (Path(output_dir) / _NORMS_FILE).write_text(json.dumps(self._norms))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        norms = Path(checkpoint or "") / _NORMS_FILE
        if checkpoint and norms.is_file():
            self._norms = json.loads(norms.read_text())
            self._norms_are_measured = True


def _unpack(inputs: dict[str, Tensor]) -> tuple[AlignedBatch, Scores | None]:
    batch = AlignedBatch(**{f.name: inputs[f.name] for f in fields(AlignedBatch)})
    if "teacher_token_logprobs" not in inputs:
        return batch, None
    return batch, Scores(inputs["teacher_token_logprobs"], inputs.get("teacher_boundary_logprobs"))
