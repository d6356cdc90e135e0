"""The page of a training run: ``report.html`` in the output folder.

Gaps on a few texts are measured before the first step and after the last; the former are kept
beside the checkpoints, for a run that is resumed. A failure here becomes a warning: the run goes on
without its page.
"""

import json
import logging
import os
import platform
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import TrainerCallback

from crosstok import __version__
from crosstok.objectives import label_metrics
from crosstok.recipes import DistilRecipe, TrainingRecipe, TransferRecipe, recipe_yaml
from crosstok.reports import RunNumbers, run_curves, run_page, write_page
from crosstok.teachers import TeacherName, short_name
from crosstok.training import (
    AlignedCollator,
    DistillationTrainer,
    Sides,
    chunk_gaps,
    chunk_views,
    telling_rows,
)
from crosstok.training.outputs import CHECKPOINTS

REPORT = "report.html"
BEFORE = "chunk_gaps_before.json"
_PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "datasets", "numpy")

log = logging.getLogger("crosstok")


def watch_run(
    recipe: TrainingRecipe,
    trainer: DistillationTrainer,
    sides: Sides,
) -> "RunReport":
    """Collect the report of a run; call ``write`` when the model is saved.

    Args:
        recipe: of the run.
        trainer: before it trains.
        sides: encoders of the student and of its teachers, of which the first is shown.
    """
    report = RunReport(recipe, trainer, sides)
    trainer.add_callback(report)
    return report


class RunReport(TrainerCallback):
    """Collects what the page of a run shows."""

    def __init__(
        self,
        recipe: TrainingRecipe,
        trainer: DistillationTrainer,
        sides: Sides,
    ) -> None:
        self.recipe, self.trainer = recipe, trainer
        self.student, self.teacher = sides.student, sides.first_teacher
        self.rows: list[dict[str, Any]] = []
        self.gaps: dict[str, list[np.ndarray]] = {}

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the gaps at the start, or read those of the run that is resumed."""
        if state.is_world_process_zero:
            _guarded("the texts of the report", lambda: self._begin(state.global_step))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Measure the gaps at the end."""
        if state.is_world_process_zero and self.trainer.teachers:
            _guarded("the gaps of the report", lambda: self._measure("after"))

    def write(self, summary: str, metrics: Mapping[str, float], counts: Mapping[str, Any]) -> None:
        """Write the page; a warning where that fails. To be called on one rank.

        Args:
            summary: one sentence.
            metrics: the final figures.
            counts: where the embedding rows came from; empty where nothing was transplanted.
        """
        _guarded(REPORT, lambda: self._write(summary, metrics, counts))

    def _begin(self, step: int) -> None:
        self.rows = telling_rows(self.trainer.train_dataset)
        if not self.trainer.teachers:
            return
        kept = Path(self.recipe.output) / CHECKPOINTS / BEFORE
        if step == 0:
            self._measure("before")
            kept.parent.mkdir(parents=True, exist_ok=True)
            kept.write_text(json.dumps([gaps.tolist() for gaps in self.gaps["before"]]))
        elif kept.is_file():
            before = [np.array(gaps) for gaps in json.loads(kept.read_text())]
            if len(before) == len(self.rows):
                self.gaps["before"] = before

    def _measure(self, name: str) -> None:
        recipe, trainer = self.recipe, self.trainer
        lengths = recipe.student_max_length, recipe.teacher_max_length
        collator = AlignedCollator(self.student, (self.teacher,), *lengths, recipe.loss_on)
        self.gaps[name] = chunk_gaps(trainer.student, trainer.teachers[0], collator, self.rows)

    def _write(self, summary: str, metrics: Mapping[str, float], counts: Mapping[str, Any]) -> None:
        output = Path(self.recipe.output)
        labels = label_metrics(self.trainer.objectives)
        recipe: dict[str, Any] = yaml.safe_load(recipe_yaml(self.recipe))
        page = run_page(
            RunNumbers(
                title=_title(self.recipe),
                summary=summary,
                metrics=metrics,
                counts=counts,
                curves=run_curves(self.trainer.state.log_history, labels),
                views=chunk_views(
                    self.rows, (self.teacher, self.student), self.recipe.loss_on, self.gaps
                ),
                note=self._note(),
                settings={name: _setting(value) for name, value in recipe.items()},
                environment=environment(self.trainer.args.device),
                labels=labels,
            )
        )
        write_page(output / REPORT, page)

    def _note(self) -> str:
        where = "A few rows of the training data"
        if not self.gaps:
            why = "could not be measured" if self.trainer.teachers else "need a teacher"
            return f"{where}, as the two tokenizers cut them; gaps in likelihood {why}."
        when = " and ".join(self.gaps)
        one = "first " if len(self.trainer.teachers) > 1 else ""
        return (
            f"{where}, and how likely the {one}teacher and the student find each chunk {when} "
            "training: the sums over its tokens, without the loss's debiasing and merging."
        )


def _title(recipe: TrainingRecipe) -> str:
    """What the run was, by the last parts of the names: ``gpt2 → bytes``, ``big teaches small``."""
    if isinstance(recipe, TransferRecipe):
        return f"{short_name(recipe.model)} → {short_name(recipe.tokenizer)}"
    if isinstance(recipe, DistilRecipe):
        teachers = [short_name(TeacherName.parse(name).name) for name in recipe.teacher]
        student = short_name(recipe.student)
        verb = "teaches" if len(teachers) == 1 else "teach"
        return f"{' and '.join(teachers)} {verb} {student}" if teachers else student
    return Path(recipe.output).resolve().name


def environment(device: torch.device) -> dict[str, str]:
    """Hardware, versions and date."""
    is_gpu = device.type == "cuda"
    processor = torch.cuda.get_device_name(device) if is_gpu else platform.machine()
    packages = ", ".join(f"{name} {version(name)}" for name in _PACKAGES)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "device": f"{device.type}, {processor}",
        "processes": os.environ.get("WORLD_SIZE", "1"),
        "threads": str(torch.get_num_threads()),
        "system": f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        "crosstok": __version__,
        "packages": packages,
    }


def _setting(value: Any) -> str:
    """A value of the recipe as YAML would have it, on one line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list) else str(value)


def _guarded(what: str, action: Callable[[], None]) -> None:
    """Turn any failure into a warning, so that the run goes on."""
    try:
        action()
    except Exception as error:  # whatever it is
        log.warning("%s could not be made (%s: %s)", what, type(error).__name__, error)
