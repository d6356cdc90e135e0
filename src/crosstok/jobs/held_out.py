"""Measure the student on held-out data while it trains, and what it is compared with.

The figures are those of `crosstok evaluate`, of the model as it stands at a step, in windows of the
recipe's length and in the arithmetic of its precision. They are logged as

    eval_NAME_bits_per_byte   of texts and chats        eval_NAME_accuracy   of exams

and at the first measurement with ``_start`` for the student as it is then, and ``_original`` or
``_teacher`` for what it is compared with. From then on,

    eval_NAME_recovered = (start - now) / (start - original)

is the share of the gap in bits per byte between the student before training and the original that
training has closed. There is none where the original is not better than the student at the start.
"""

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from transformers import TrainerCallback

from crosstok.chats import ExampleEncoder
from crosstok.jobs.held_out_data import HeldOutData, Reader, measure
from crosstok.models import evaluating, max_positions
from crosstok.recipes import TrainingRecipe
from crosstok.reports.tables import START, is_bits_per_byte, plain_label, recovered_of
from crosstok.training import DistillationTrainer, Student
from crosstok.training.best_checkpoint import note_best

log = logging.getLogger("crosstok")


@dataclass(frozen=True)
class Original:
    """What the student is compared with.

    Attributes:
        label: the model that was transferred, or a teacher.
        side: its encoder.
        open: returns the model; called once, when it is measured.
    """

    label: Literal["original", "teacher"]
    side: ExampleEncoder
    open: Callable[[], Any]


class HeldOut(TrainerCallback):
    """Figures on held-out data: before the first step, every so often, after the last.

    Every rank measures the same, as every rank logs; what is logged is shown by the first.
    """

    def __init__(
        self,
        recipe: TrainingRecipe,
        student: Student,
        side: ExampleEncoder,
        data: HeldOutData,
        original: Original | None = None,
    ) -> None:
        """Find what can be wrong while nothing is written yet.

        Args:
            recipe: of the run.
            student: before it is trained.
            side: its encoder.
            data: `load_held_out`; without any, nothing is measured.
            original: what the student is compared with; None: nothing.

        Raises:
            ValueError: the student has fewer positions than a window, or can score nothing of some
                of the data.
        """
        self._recipe, self._student, self._side = recipe, student, side
        self._data, self._original = data, original
        if data:
            data.check(self._make_reader())

    def watch(self, trainer: DistillationTrainer) -> None:
        """Measure when this trainer trains, on the device that it has brought the student to."""
        if self._data:
            self._trainer, self._reader = trainer, self._make_reader()
            trainer.add_callback(self)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure where the run starts or goes on."""
        self._log(state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure at every multiple of the interval and at the last step.

        A run that is being stopped measures where it goes on.
        """
        if self._trainer.stopping.is_due:
            return
        if state.global_step % self._recipe.eval_every == 0 or state.global_step >= state.max_steps:
            self._log(state, control)

    def _log(self, state: Any, control: Any) -> None:
        """Log what a run that is resumed has not logged at this step already."""
        lines = [line for line in state.log_history if line["step"] == state.global_step]
        logged = {name for line in lines for name in line}
        due = [name for name in self._data.figures if name not in logged]
        if not due:
            return
        began = time.perf_counter()
        values = self._measure(due, self._reader)
        known = {name: value for line in state.log_history for name, value in line.items()}
        values |= self._compared(values, known, is_start=state.global_step == 0)
        self._trainer.meters.skip(time.perf_counter() - began)
        should_log = control.should_log  # by the step that ends here; a log takes it back
        self._trainer.log({**values, **self._trainer.seen()})
        control.should_log = should_log
        if self._trainer.args.load_best_model_at_end:
            lines = [line for line in state.log_history if line["step"] == state.global_step]
            names = [name for name in self._data.figures if is_bits_per_byte(name)]
            figures = {name: line[name] for line in lines for name in names if name in line}
            note_best(state, control, figures)

    def _make_reader(self) -> Reader:
        length = self._recipe.student_max_length
        return Reader.of(self._student.model, self._side, "the student", length)

    def _measure(self, names: list[str], reader: Reader) -> dict[str, float]:
        with evaluating(reader.model.model), self._trainer.compute_loss_context_manager():
            return {name: measure(self._data.figures[name], reader) for name in names}

    def _compared(
        self, values: Mapping[str, float], known: Mapping[str, float], *, is_start: bool
    ) -> dict[str, float]:
        """At the start, what later figures are compared with; afterwards, the share recovered."""
        if is_start:
            starts = {f"{name}{START}": value for name, value in values.items()}
            return {**starts, **self._of_original(values)}
        shares = {}
        for name, now in values.items():
            start, original = known.get(f"{name}{START}"), known.get(self._name_of(name))
            if start is not None and original is not None and _has_gap(name, start, original):
                shares[recovered_of(name)] = (start - now) / (start - original)
        return shares

    def _name_of(self, name: str) -> str:
        """The name of the original's figure."""
        return f"{name}_{self._original.label}" if self._original is not None else ""

    def _of_original(self, values: Mapping[str, float]) -> dict[str, float]:
        original, recipe = self._original, self._recipe
        if original is None:
            return {}
        # Whatever loading the model draws (on the CPU), the student's draws stay the same.
        with torch.random.fork_rng(devices=[]):
            model = original.open()
        length = recipe.teacher_max_length or recipe.student_max_length
        length = min(length, max_positions(model.config) or length)
        reader = Reader.of(model, original.side, f"the {original.label}", length)
        found = self._measure(list(values), reader)
        for name, value in found.items():
            if is_bits_per_byte(name) and not _has_gap(name, values[name], value):
                log.info(
                    "%s: the %s (%.4g) is not better than the student at the start (%.4g), so no "
                    "share of a gap is given",
                    plain_label(name),
                    original.label,
                    value,
                    values[name],
                )
        return {self._name_of(name): value for name, value in found.items()}


def _has_gap(name: str, start: float, original: float) -> bool:
    return is_bits_per_byte(name) and original < start
