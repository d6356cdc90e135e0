"""A training run, from its recipe to its output folder: what the jobs that train share."""

import logging
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from torch.utils.tensorboard import SummaryWriter
from transformers.integrations.integration_utils import TensorBoardCallback
from transformers.trainer_callback import PrinterCallback

from crosstok.alignment import ENDS_OF_CHATS, ENDS_OF_TEXTS
from crosstok.jobs.arguments import check_metric_sinks, metric_sinks, training_arguments
from crosstok.jobs.held_out import HeldOut
from crosstok.jobs.publishing import check_hub, publish
from crosstok.jobs.reading import say_what_is_read
from crosstok.jobs.report import BEFORE, RunReport, watch_run
from crosstok.jobs.resuming import check_same_recipe, resume_point
from crosstok.jobs.stopping import Stopped, naming_checkpoint, signals_ask
from crosstok.jobs.teachers import check_teacher_cache
from crosstok.models import SavedDtypes, check_model_exists, extra_inputs, needs_code
from crosstok.models.saved_dtypes import save_weights
from crosstok.objectives import Objective
from crosstok.recipes import TrainingRecipe, as_mapping, recipe_yaml, save_recipe
from crosstok.teachers import Teacher
from crosstok.training import AlignedCollator, DistillationTrainer, Sides, Student
from crosstok.training.adapters import BASE, loading_lines, save_adapter
from crosstok.training.checkpoints import last_checkpoint, remove_checkpoints
from crosstok.training.divergence import DivergedError, Divergence
from crosstok.training.folder_lock import check_unlocked, lock_folder, unlock_folder
from crosstok.training.log_file import LOG, LogFile
from crosstok.training.model_card import Card, public_name
from crosstok.training.outputs import (
    CHECKPOINTS,
    FIGURES,
    RECIPE,
    check_output_folder,
    clear_output_folder,
    save_outputs,
    to_json,
)
from crosstok.training.progress import ProgressBar
from crosstok.training.training_rows import (
    are_chats,
    check_something_is_learned,
    stop_where_turns_end,
)

log = logging.getLogger("crosstok")


@dataclass(frozen=True, kw_only=True)
class Run:
    """A training run: what its recipe has become.

    Attributes:
        asked: the recipe as it was given, which is saved with the model.
        recipe: the same with every length filled in.
        objectives: what is trained.
        sides: encoders of the student and its teachers.
        rows: the data, for the collator.
        student: the model that is trained.
        teachers: what it learns from; none where no objective uses one.
        dtypes: of the student's own files, and of those that are written.
        held_out: what is measured on held-out texts.
        base_model: name of what is trained; None where it began with random weights.
    """

    asked: TrainingRecipe
    recipe: TrainingRecipe
    objectives: Sequence[Objective]
    sides: Sides
    rows: Any
    student: Student
    teachers: Sequence[Teacher]
    dtypes: SavedDtypes
    held_out: HeldOut
    base_model: str | None

    def train(self) -> "TrainedRun":
        """Train to the end, from the start or from the checkpoint that the recipe resumes.

        Raises:
            Stopped: by Ctrl-C or SIGTERM; the last checkpoint stands.
        """
        trainer = build_trainer(
            self.recipe, self.student, self.teachers, self.sides, self.rows, self.objectives
        )
        if PartialState().is_main_process:
            say_what_is_read(self.recipe, trainer, self.sides)
        self.held_out.watch(trainer)
        start_output(self.asked, trainer)
        try:
            page = watch_run(self.recipe, trainer, self.sides)
            metrics = self._train_to_end(trainer)
        except BaseException:
            end_output(self.asked)
            raise
        finally:
            close_bar(trainer)
        divergence = trainer.divergence
        if divergence is not None:
            metrics["diverged_since_step"] = divergence.since
        return TrainedRun(self, metrics, page, divergence)

    def _train_to_end(self, trainer: DistillationTrainer) -> dict[str, float]:
        checkpoints = Path(self.asked.output) / CHECKPOINTS
        with naming_checkpoint(checkpoints), signals_ask(trainer.stopping.ask):
            metrics = trainer.train_to_end(resume_point(self.asked))
        if trainer.stopping.is_due:
            number = trainer.stopping.signal_number or signal.SIGTERM  # that of another rank
            raise Stopped(number, last_checkpoint(checkpoints))
        return metrics


@dataclass(frozen=True)
class TrainedRun:
    """A run that has trained, ready to be saved.

    Attributes:
        run: what was trained.
        metrics: its final figures.
        page: the report of the run.
        divergence: how its loss diverged; None where it did not.
        uploaded: names of what goes to the hub, if anything does; filled when it is saved.
    """

    run: Run
    metrics: dict[str, float]
    page: RunReport
    divergence: Divergence | None = None
    uploaded: list[str] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        """Where it is saved."""
        return Path(self.run.asked.output)

    def save(
        self, summary: str, lines: Sequence[str], counts: Mapping[str, Any], *, tag: str
    ) -> None:
        """Write model, tokenizer, recipe, card, figures and the report, on the first rank.

        Checkpoints are removed after that, unless they are to be kept.

        Args:
            summary: what was done, in a sentence.
            lines: further sentences for the card.
            counts: where the embedding rows came from; empty where nothing was transplanted.
            tag: of the card.

        Raises:
            DivergedError: the loss had diverged; all is written, and the card says so.
        """
        if self.divergence is not None:
            lines = [self._warning(self.divergence), *lines]
        try:
            with naming_checkpoint(self.folder / CHECKPOINTS):
                on_first_rank(lambda: self._save_model(summary, lines, counts, tag))
            on_first_rank(lambda: self.page.write(summary, self.metrics, counts))
            self._refuse_if_diverged()
            if not self.run.asked.keep_checkpoints:
                on_first_rank(self._remove_checkpoints)
        finally:
            end_output(self.run.asked)

    def _warning(self, divergence: Divergence) -> str:
        best = self.metrics.get("best_step")
        if best is None:
            return f"**Do not use this model:** {divergence}."
        return (
            f"**The run failed:** {divergence}. These are the weights of step {best:.0f}, the best."
        )

    def _refuse_if_diverged(self) -> None:
        if self.divergence is not None:
            raise DivergedError(
                f"{self.divergence}. The model is in {self.folder}, marked in its card, with its "
                "checkpoints. Start anew in another output with a lower learning_rate, or with "
                "more warmup_steps.",
                self.folder,
                self.metrics,
            )

    def _remove_checkpoints(self) -> None:
        """Remove what only a run that goes on needs."""
        (self.folder / CHECKPOINTS / BEFORE).unlink(missing_ok=True)
        remove_checkpoints(self.folder / CHECKPOINTS)

    def _save_model(
        self, summary: str, lines: Sequence[str], counts: Mapping[str, Any], tag: str
    ) -> None:
        run = self.run
        as_adapter = run.asked.lora_output == "adapter"
        model = run.student.settle() if as_adapter else run.student.export()
        if are_chats(run.rows):
            stop_where_turns_end(model, run.student.encoder.byte_vocab)
        card = self._card([summary, *lines], tag)
        files = {
            "README.md": card.text(),
            RECIPE: recipe_yaml(_without_permissions(run.asked)),
            FIGURES: to_json(self.metrics),
        }
        if counts:
            files["transplant.json"] = to_json(counts)
        write = self._write_adapter if as_adapter else self._write_plain
        written = save_outputs(self.folder, write, run.student.encoder.tokenizer, files)
        own = files.keys() - {"README.md"}  # with paths of this machine, and figures
        self.uploaded.extend(name for name in written if name not in own)

    def _write_plain(self, folder: Path) -> None:
        save_weights(folder, self.run.student.model, self.run.dtypes)

    def _write_adapter(self, folder: Path) -> None:
        asked, base = self.run.asked, self._base_of_adapter
        place = str(self.folder / BASE) if base is None else base
        if asked.push_to_hub is not None:
            place = asked.push_to_hub if base is None else public_name(base)
        dtypes = self.run.dtypes
        save_adapter(folder, self.run.student, dtypes=dtypes, base=base, place=place)

    @property
    def _base_of_adapter(self) -> str | None:
        """The model that the adapter is for, where it is as it was; else it is saved, too."""
        return self.run.base_model if self.run.student.report is None else None

    def _card(self, lines: Sequence[str], tag: str) -> Card:
        run, place = self.run, self.run.asked.push_to_hub
        has_code = needs_code(run.student.model)
        as_adapter = run.asked.lora_output == "adapter"
        base = self._base_of_adapter
        loading = loading_lines(
            None if base is None else public_name(base),
            place or "path/to/this/folder",
            has_code=has_code,
        )
        return Card(
            title=self.folder.resolve().name,
            lines=lines,
            recipe=as_mapping(_without_permissions(run.asked)),
            base_model=run.base_model,
            results=self.metrics,
            datasets=run.asked.data,
            tag=tag,
            relation="adapter" if as_adapter else "finetune",
            has_code=has_code,
            repository=place,
            loading=loading if as_adapter else None,
        )

    def upload(self) -> None:
        """Upload what was saved, if the recipe asks for it.

        Raises:
            UploadError: it failed; the folder stands.
        """
        on_first_rank(lambda: publish(self.run.asked, self.folder, self.uploaded))


def check_request(
    recipe: TrainingRecipe, models: Sequence[str], objectives: Sequence[Objective]
) -> None:
    """Refuse what cannot be done before anything is loaded.

    Raises:
        ValueError: names the option, its value and what to do.
    """
    output = Path(recipe.output)
    check_unlocked(output)
    check_output_folder(output, resume=recipe.resume, overwrite=recipe.overwrite)
    check_same_recipe(recipe, output)
    recipe.check(objectives)
    check_metric_sinks(recipe)
    check_hub(recipe)
    recipe.check_device()
    check_teacher_cache(recipe, output, objectives)
    for model in models:
        check_model_exists(model)
    if recipe.precision == "fp16" and not torch.cuda.is_available():
        raise ValueError(
            "precision fp16 needs a GPU, and there is none; use bf16, or fp32 (the default)."
        )


def on_first_rank(action: Callable[[], None]) -> None:
    """Do something once, when every process has come here, and let none go on before it is done."""
    ranks = PartialState()
    ranks.wait_for_everyone()
    if ranks.is_main_process:
        action()
    ranks.wait_for_everyone()


def start_output(recipe: TrainingRecipe, trainer: DistillationTrainer) -> None:
    """Make the folder ready for a run, say in it which run, and let metrics go there."""
    on_first_rank(lambda: _start_folder(recipe))
    trainer.add_callback(LogFile(Path(recipe.output) / LOG))
    if "tensorboard" in metric_sinks(recipe) and PartialState().is_main_process:
        trainer.add_callback(TensorBoardCallback(SummaryWriter(f"{recipe.output}/runs")))


def end_output(recipe: TrainingRecipe) -> None:
    """Let other runs write to the folder, whatever became of this one."""
    if PartialState().is_main_process:
        unlock_folder(Path(recipe.output))


def _start_folder(recipe: TrainingRecipe) -> None:
    output = Path(recipe.output)
    lock_folder(output)
    try:
        if (output / RECIPE).exists():  # maybe of a run that came while this one loaded
            check_output_folder(output, resume=recipe.resume, overwrite=recipe.overwrite)
        goes_on = recipe.resume and last_checkpoint(output / CHECKPOINTS) is not None
        if recipe.overwrite and not goes_on:
            clear_output_folder(output)
        save_recipe(_without_permissions(recipe), output / RECIPE)
    except BaseException:
        unlock_folder(output)
        raise


def _without_permissions(recipe: TrainingRecipe) -> TrainingRecipe:
    """The recipe as it is saved: whoever runs it again says again what may be replaced."""
    return replace(recipe, overwrite=False, resume=False)


def close_bar(trainer: DistillationTrainer) -> None:
    """Give the terminal back, however training ended."""
    bar = trainer.pop_callback(ProgressBar)
    if isinstance(bar, ProgressBar):
        bar.close()


def build_trainer(
    recipe: TrainingRecipe,
    student: Student,
    teachers: Sequence[Teacher],
    sides: Sides,
    rows: Any,
    objectives: Sequence[Objective] | None = None,
) -> DistillationTrainer:
    """The trainer of a recipe, with its progress bar; nothing is written yet.

    The ends of student and teacher are matched by what ends the data: turns, or documents.

    Args:
        recipe: of a job that trains.
        student: what is trained.
        teachers: none where no objective needs one.
        sides: their encoders.
        rows: as `crosstok.jobs.data.make_rows` makes them.
        objectives: what is trained; what the recipe names if not given.

    Raises:
        ValueError: the objectives cannot be used for these models, or weights fit none of them.
    """
    objectives = recipe.objectives() if objectives is None else objectives
    collator = AlignedCollator(
        sides.student,
        sides.teachers if teachers else (),
        recipe.student_max_length,
        recipe.teacher_max_length,
        recipe.loss_on,
        extra_inputs(student.model),
    )
    check_something_is_learned(collator, rows)
    student.ends = ENDS_OF_CHATS if are_chats(rows) else ENDS_OF_TEXTS
    trainer = DistillationTrainer(
        student,
        teachers,
        objectives,
        recipe.combination([objective.name for objective in objectives]),
        training_arguments(recipe, student.model),
        data_collator=collator,
        processing_class=student.encoder.tokenizer,
        train_dataset=rows,
    )
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(ProgressBar())
    return trainer
