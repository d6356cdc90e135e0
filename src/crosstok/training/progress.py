"""What a person sees of a run: a bar with rate and time left, and log lines, on stderr."""

import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback

from crosstok.reports.tables import is_held_out, is_reference, label_and_form

_SHOWN = ("loss", "chunk_gap_nats", "bits_per_byte", "coverage", "tokens_per_second")


class ProgressBar(TrainerCallback):
    """Steps, the latest metrics, tokens a second and time left; a line for every log."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._progress: Progress | None = None
        self._task: Any = None

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Show the bar."""
        if not state.is_world_process_zero:
            return
        self._progress = Progress(
            TextColumn("training"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[shown]}"),
            console=self._console,
            disable=not sys.stderr.isatty(),
        )
        self._task = self._progress.add_task("", total=state.max_steps, shown="")
        self._progress.start()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Move the bar, and have the last step logged whatever the interval."""
        if state.global_step >= state.max_steps:
            control.should_log = True
        if self._progress is not None:
            self._progress.update(self._task, completed=state.global_step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Print the metrics of this log line."""
        if self._progress is None or not logs:
            return
        for what, shown in _held_out(logs).items():
            self._line(state, f"held-out {what}:  {shown}")
        if "loss" not in logs:
            return
        shown = "  ".join(f"{name} {_number(logs[name])}" for name in _SHOWN if name in logs)
        self._progress.update(self._task, shown=shown)
        self._line(state, shown)

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the bar away."""
        self.close()

    def close(self) -> None:
        """Take the bar away, if it is still there."""
        if self._progress is not None:
            self._progress.stop()
            self._progress = None

    def _line(self, state: Any, shown: str) -> None:
        line = f"step {state.global_step}/{state.max_steps}  {shown}"
        self._console.print(line, highlight=False, soft_wrap=True, markup=False)


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.4g}"


def _held_out(logs: Mapping[str, Any]) -> dict[str, str]:
    """Figures on held-out data by what they are: the student's, in brackets what it is beside."""
    shown: dict[str, list[str]] = {}
    for name, value in logs.items():
        if not is_held_out(name) or is_reference(name):
            continue
        what, _, data = label_and_form(name)[0].partition(" on ")
        beside = [
            f"{end} {_number(logs[f'{name}_{end}'])}"
            for end in ("original", "teacher")
            if f"{name}_{end}" in logs
        ]
        number = f"{value:.1%}" if what == "recovered" else _number(value)
        shown.setdefault(what, []).append(
            f"{data} {number}" + (f" ({', '.join(beside)})" if beside else "")
        )
    return {what: "  ".join(figures) for what, figures in shown.items()}
