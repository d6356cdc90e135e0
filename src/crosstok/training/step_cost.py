"""Time and memory of a training step, by taking a few."""

import contextlib
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crosstok.training.trainer import DistillationTrainer


@dataclass(frozen=True)
class StepCost:
    """A step on one micro-batch: teacher's forward, student's forward and backward, AdamW.

    Attributes:
        objective: what was trained by.
        device: where.
        examples: in the micro-batch.
        student_tokens: in the micro-batch, padding aside.
        teacher_tokens: the same for the teacher.
        teacher_seconds: median time of its forward passes.
        student_seconds: median time of the student's passes and of the loss.
        optimizer_seconds: median time of the update.
        peak_memory_gib: on a GPU what was allocated on it, on a CPU what the whole process holds;
            None where the system does not report it.
    """

    objective: str
    device: str
    examples: int
    student_tokens: int
    teacher_tokens: int
    teacher_seconds: float
    student_seconds: float
    optimizer_seconds: float
    peak_memory_gib: float | None

    @property
    def seconds(self) -> float:
        """Of the whole step."""
        return self.teacher_seconds + self.student_seconds + self.optimizer_seconds


def step_cost(
    trainer: DistillationTrainer, batch: Mapping[str, Tensor], *, repeats: int = 3
) -> StepCost:
    """Take ``1 + repeats`` optimizer steps on a micro-batch; the first is not counted.

    The student is changed by them. Nothing is written.

    Args:
        trainer: not yet run.
        batch: from the collator.
        repeats: steps that are counted.
    """
    device = trainer.args.device
    model: Any = trainer.accelerator.prepare_model(trainer.student.model)
    model.train()
    optimizer = trainer.create_optimizer()
    clock = _Clock(device)
    peak = _PeakMemory(device)
    for _ in range(1 + repeats):
        given = iter([dict(batch)])
        (scored,), count = clock("teacher", partial(trainer.get_batch_samples, given, 1, device))
        clock("student", partial(trainer.training_step, model, scored, count))
        clock("optimizer", optimizer.step)
        optimizer.zero_grad()
    return StepCost(
        objective="+".join(trainer.terms),
        device=str(device),
        examples=len(batch["student_ids"]),
        student_tokens=int(batch["student_attention_mask"].sum()),
        teacher_tokens=int(batch["teacher_attention_mask.0"].sum()),
        teacher_seconds=clock.median("teacher"),
        student_seconds=clock.median("student"),
        optimizer_seconds=clock.median("optimizer"),
        peak_memory_gib=peak.gibibytes(),
    )


class _Clock:
    """Seconds of calls by name; the first of each name is a warm-up."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._seconds: dict[str, list[float]] = {}

    def __call__(self, name: str, call: Callable[[], Any]) -> Any:
        self._wait()
        start = time.perf_counter()
        result = call()
        self._wait()
        self._seconds.setdefault(name, []).append(time.perf_counter() - start)
        return result

    def median(self, name: str) -> float:
        return statistics.median(self._seconds[name][1:] or self._seconds[name])

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


class _PeakMemory:
    """The most memory held since it was made."""

    _STATUS, _REFERENCES = Path("/proc/self/status"), Path("/proc/self/clear_refs")

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        elif sys.platform == "linux":
            # The high-water mark starts anew; where that is not allowed, it stays the process's.
            with contextlib.suppress(OSError):
                self._REFERENCES.write_text("5")

    def gibibytes(self) -> float | None:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**30
        if sys.platform != "linux":
            return None
        lines = self._STATUS.read_text().splitlines()
        peak = next((line for line in lines if line.startswith("VmHWM:")), None)
        return None if peak is None else int(peak.split()[1]) / 2**20
