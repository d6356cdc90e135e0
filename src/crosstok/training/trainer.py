"""The training loop is transformers' own; here is what a step of cross-tokenizer training adds.

Losses are sums. Before the student runs, the teacher has scored every micro-batch of the optimizer
step (two numbers a token), so the divisor of the whole global batch is known, and

    loss of a micro-batch = sum over objectives of  weight * total / (count of the global batch)

adds up to the same gradient however the batch is cut.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from transformers import Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from crosstok.corpora import distinct_names
from crosstok.objectives import Needs, Objective
from crosstok.objectives.weighting import Weighting
from crosstok.reports.tables import is_held_out
from crosstok.teachers import Teacher, check_needs
from crosstok.training.best_checkpoint import best_checkpoint
from crosstok.training.checkpoints import last_checkpoint, mark_complete, saving
from crosstok.training.collator import batch_of
from crosstok.training.divergence import Divergence, LossWatch
from crosstok.training.gradient_norms import GradientNorms
from crosstok.training.loss_sums import loss_sums, seen_by, student_scores
from crosstok.training.meters import Meters
from crosstok.training.stopping import StopAfterStep
from crosstok.training.student import Student
from crosstok.training.terms import (
    Term,
    attach_modules,
    bind,
    own_rates,
)


class NonFiniteLossError(RuntimeError):
    """The loss is NaN or infinite: training stops; the last checkpoint stands."""


class DistillationTrainer(Trainer):
    """Trains a student on aligned batches against a teacher, by any number of objectives.

    Args:
        student: model, encoder and masks.
        teachers: each scores the same texts; none if no objective needs one.
        objectives: at least one; one that needs a teacher is applied to every teacher.
        weighting: how they are combined.
        args: transformers' own arguments.
        train_dataset: rows for the collator.
        data_collator: rows to the tensors of an ``AlignedBatch``.
        kwargs: passed on to ``transformers.Trainer``.

    Raises:
        ValueError: an objective needs what a teacher cannot give.
    """

    def __init__(
        self,
        student: Student,
        teachers: Sequence[Teacher],
        objectives: Sequence[Objective],
        weighting: Weighting,
        args: TrainingArguments,
        **kwargs: Any,
    ) -> None:
        check_needs(objectives, teachers)
        self.student, self.teachers = student, tuple(teachers)
        self.objectives = tuple(objectives)
        self.needs = Needs.all_of(objective.needs for objective in objectives)
        self._reads_outputs = any(_reads_outputs(objective.needs) for objective in objectives)
        self.terms = bind(objectives, student.view(args.device), self.teachers)
        attach_modules(student.model, self.terms)
        self.weighting = weighting
        self.meters = Meters()
        self.norms = GradientNorms(self.terms, weighting)
        self._counts: dict[str, Tensor] = {}
        self._weights = self.norms.weights()
        super().__init__(model=student.model, args=args, **kwargs)
        self.loss_is_scaled_for_ga = True  # by the counts of the global batch
        self.stopping = StopAfterStep()
        self.add_callback(self.stopping)
        self.watch = LossWatch(lambda: self.meters.losses(self._over_ranks))
        self.divergence: Divergence | None = None
        self.add_callback(self.watch)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Any], num_batches: int, device: torch.device
    ) -> tuple[list[dict[str, Tensor]], Tensor | int | None]:
        """Collect the micro-batches of an optimizer step, let teachers score them, and count."""
        try:
            batches, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        except (RuntimeError, OSError, EOFError):  # the signal has ended the loader's workers, too
            if self.stopping.signal_number is None:
                raise
            batches = None
        if batches is not None and not batches:
            return batches, None
        scored = [self._with_teachers(self._prepare_inputs(batch)) for batch in batches or ()]
        counts = torch.zeros(len(self.terms), dtype=torch.float64, device=device)
        for inputs in scored:
            self._meter(inputs)
            counts += torch.stack([t.objective.count(*seen_by(t, inputs)) for t in self._terms()])
        flags = counts.new_tensor(self.stopping.flags(can_go_on=batches is not None))
        sums = self._over_ranks(torch.cat([counts, flags]))
        if not self.stopping.agree(sums[-2:], self.accelerator.num_processes):
            self.stopping.end(self.control)
            return [], None
        counts = sums[:-2].clamp(min=1)
        self._counts = dict(zip(self.terms, counts, strict=True))
        if self.norms.must_be_measured:
            self._measure_norms(scored)
        self.norms.begin_step(self.state.global_step)
        progress = self.state.global_step / max(1, self.state.max_steps)
        self._weights = self.norms.weights(progress)
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
        if self.norms.is_measuring:
            self.norms.add(losses, self.student.model)
        loss = torch.stack([self._weights[name] * losses[name] for name in losses]).sum()
        if isinstance(model, DistributedDataParallel) and not self._reads_outputs:
            loss = loss + _nothing_of(self.student.head.tensors())
        self._check_finite(loss, inputs)
        return (loss, None) if return_outputs else loss

    def training_step(self, model: nn.Module, *args: Any, **kwargs: Any) -> Tensor:
        """One forward and backward pass; after the last of a step the norms are renewed."""
        loss: Tensor = super().training_step(model, *args, **kwargs)
        if self.norms.is_measuring and self.accelerator.sync_gradients:
            self.norms.update(self._over_ranks, self.accelerator.num_processes)
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the objectives' metrics and the rates since the last log."""
        if "loss" in logs:
            logs = {**logs, **self.meters.drain(self._over_ranks)}
            for name in ("tokens", "bytes"):
                logs[f"{name}_seen"] = logs.pop(name, 0.0) + self._logged(f"{name}_seen")
            if len(self.terms) > 1:
                logs |= {f"weight_{name}": weight for name, weight in self._weights.items()}
        super().log(logs, start_time)

    def train_to_end(self, checkpoint: str | None) -> dict[str, float]:
        """Train up to ``max_steps``, from a checkpoint or from the start, and sum up.

        Returns:
            Steps, seconds, the means of the logged metrics over the last tenth of the run, and the
            last figures of held-out texts. Whether the loss diverged is in ``divergence``.
        """
        seconds = 0.0
        if not self._is_done(checkpoint):
            outcome = self.train(resume_from_checkpoint=checkpoint)
            seconds = outcome.metrics.get("train_runtime", 0.0)
        logged = [entry for entry in self.state.log_history if "loss" in entry]
        last = logged[-max(1, len(logged) // 10) :]
        means = {
            name: sum(entry[name] for entry in last) / len(last)
            for name in (last[0] if last else {})
            if name not in ("step", "epoch", "learning_rate", "tokens_seen", "bytes_seen")
        }
        held_out = {
            name: value
            for entry in self.state.log_history
            for name, value in entry.items()
            if is_held_out(name) and entry["step"] <= self._saved_step()
        }
        self.divergence = self.watch.verdict(means, logged)
        steps: dict[str, float] = {"steps": self.state.global_step, "seconds": seconds}
        if self.args.load_best_model_at_end:
            steps["best_step"] = self._saved_step()
        return {**steps, **means, **self._teacher_metrics(), **held_out}

    def _saved_step(self) -> int:
        """The step whose weights the student has at the end: the last, or the best."""
        best = self.state.best_global_step if self.args.load_best_model_at_end else None
        return best or self.state.global_step

    def _teacher_metrics(self) -> dict[str, float]:
        """What the teachers say of the run, over all ranks."""
        names = distinct_names([teacher.name for teacher in self.teachers])
        metrics = {}
        for name, teacher in zip(names, self.teachers, strict=True):
            suffix = f"@{name}" if len(names) > 1 else ""
            for metric, ratio in teacher.metrics().items():
                both = torch.tensor(ratio, dtype=torch.float64, device=self.args.device)
                total, count = self._over_ranks(both).tolist()
                metrics[f"{metric}{suffix}"] = total / max(1, count)
        return metrics

    def seen(self) -> dict[str, float]:
        """Tokens and bytes that the student has read up to now. To be called on every rank."""
        names = ("tokens", "bytes")
        sums = self.meters.sums(*names)
        new = [0.0, 0.0] if sums is None else self._over_ranks(sums).tolist()
        return {
            f"{name}_seen": self._logged(f"{name}_seen") + number
            for name, number in zip(names, new, strict=True)
        }

    def _is_done(self, checkpoint: str | None) -> bool:
        """Take the weights of a checkpoint of the last step; ``train`` would make one step more."""
        if checkpoint is None or self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return False
        state = TrainerState.load_from_json(str(Path(checkpoint) / TRAINER_STATE_NAME))
        last = self.args.max_steps
        if last <= 0:  # the length is one in epochs
            last = self.set_initial_training_values(self.args, self.get_train_dataloader())[-1]
        if state.global_step < last:
            return False
        state.is_world_process_zero = self.is_world_process_zero()
        self.state = state
        self._load_from_checkpoint(checkpoint)
        self.watch.load(Path(checkpoint))
        if self.args.load_best_model_at_end:
            best = best_checkpoint(state, Path(checkpoint).parent)
            if best is not None:
                state.best_model_checkpoint = str(best)
                self._load_best_model()
        for event in (self.callback_handler.on_train_begin, self.callback_handler.on_train_end):
            self.control = event(self.args, self.state, self.control)
        return True

    def _logged(self, name: str) -> float:
        """The last value in a training log line, of this run or the one it goes on from; else 0."""
        lines = (line for line in reversed(self.state.log_history) if "loss" in line)
        return float(next((line[name] for line in lines if name in line), 0.0))

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The optimizer, with rates of their own for modules that objectives train."""
        optimizer: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
        for parameters, rate in own_rates(self.terms):
            own = {id(parameter) for parameter in parameters}
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in own]
            optimizer.add_param_group({"params": parameters, "lr": rate, "weight_decay": 0.0})
        return optimizer

    def _terms(self) -> Iterable[Term]:
        return self.terms.values()

    def _with_teachers(self, inputs: dict[str, Any]) -> dict[str, Any]:
        """The inputs with every teacher's scores (``scores.i``)."""
        for i, teacher in enumerate(self.teachers):
            ids, mask = inputs[f"teacher_ids.{i}"], inputs[f"teacher_attention_mask.{i}"]
            with self.compute_loss_context_manager():
                inputs[f"scores.{i}"] = teacher.scores(ids, mask, self.needs)
        return inputs

    def _meter(self, inputs: dict[str, Any]) -> None:
        self.meters.add_batch(batch_of(inputs), inputs["cut_bytes"])
        names = distinct_names([teacher.name for teacher in self.teachers])
        for i, name in enumerate(names):
            suffix = f"@{name}" if len(names) > 1 else ""
            self.meters.add_alignment(batch_of(inputs, i), suffix)

    def _losses(self, model: nn.Module, inputs: dict[str, Any]) -> dict[str, Tensor]:
        """Every term's loss, divided by its global count (times ranks: DDP takes the mean)."""
        scores = student_scores(model, self.student, self.needs, inputs)
        losses = {}
        for name, loss_sum in loss_sums(self.terms, inputs, scores).items():
            self.meters.add_loss(name, loss_sum)
            scale = self.accelerator.num_processes / self._counts[name]
            losses[name] = loss_sum.total * scale
        self.meters.add_student(batch_of(inputs), scores)
        return losses

    def _measure_norms(self, scored: list[dict[str, Any]]) -> None:
        """Before the first step: the norms of its own batch, by a pass that updates nothing."""
        meters, self.meters = self.meters, Meters()
        self.student.model.train()
        for inputs in scored:
            with self.compute_loss_context_manager():
                self.norms.add(self._losses(self.student.model, inputs), self.student.model)
        self.norms.update(self._over_ranks, self.accelerator.num_processes)
        self.meters = meters

    def _over_ranks(self, value: Tensor) -> Tensor:
        reduced: Tensor = self.accelerator.reduce(value, reduction="sum")
        return reduced

    def _check_finite(self, loss: Tensor, inputs: dict[str, Tensor]) -> None:
        if bool(torch.isfinite(loss)):
            return
        rows = ", ".join(str(row) for row in inputs["rows"].tolist())
        checkpoint = last_checkpoint(Path(self.args.output_dir or ""))
        stands = (
            "no checkpoint was saved before it" if checkpoint is None else f"{checkpoint} stands"
        )
        raise NonFiniteLossError(
            f"the loss is {float(loss)} at step {self.state.global_step + 1}, on the data rows "
            f"{rows}. Nothing was changed by this step, and {stands}. Start anew with a lower "
            f"learning_rate (it is {self.args.learning_rate:.3g}) or with precision fp32, or leave "
            "these rows out."
        )

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        folder = Path(self.args.output_dir or "") / f"checkpoint-{self.state.global_step}"
        with saving(folder):
            super()._save_checkpoint(model, trial)
            mark_complete(folder)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            self.norms.save(Path(output_dir))
            self.watch.save(Path(output_dir))

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint:
            self.norms.load(Path(checkpoint))
            self.watch.load(Path(checkpoint))
            self._follow_schedule()

    def _follow_schedule(self) -> None:
        """Take the next step at this run's rate: the checkpoint's is that of the former length."""
        schedule: Any = self.lr_scheduler
        if not isinstance(schedule, LambdaLR):
            return
        rates = [
            base * rate(schedule.last_epoch)
            for base, rate in zip(schedule.base_lrs, schedule.lr_lambdas, strict=True)
        ]
        for group, rate in zip(schedule.optimizer.param_groups, rates, strict=True):
            group["lr"] = rate
        schedule._last_lr = rates


def _reads_outputs(needs: Needs) -> bool:
    """False: hidden states for their own sake, which may be all that the loss is made of."""
    return needs.distributions or needs.boundary_mass or not needs.hidden_states


def _nothing_of(tensors: Iterable[Tensor]) -> Tensor:
    """A zero that depends on them: ranks wait for a gradient of every trained parameter."""
    return 0.0 * torch.stack([tensor.flatten()[0] for tensor in tensors]).sum()
