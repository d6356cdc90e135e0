"""Notice a loss that diverges: it ends far above where it started.

The measure is bits per byte on the training batches, which every run has and which no weighting of
objectives scales. It is compared with that of the first step, before which nothing has been
learned. An objective may trade it for something else, so the objectives' own losses must have risen
as well.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

FACTOR = 1.5
"""Bits per byte at the end, over those at the start, from which a run has diverged."""

_BITS = "bits_per_byte"
_START = "first_losses.json"

log = logging.getLogger("crosstok")


class DivergedError(RuntimeError):
    """The loss ended far above its start; what was trained is saved and marked.

    Attributes:
        folder: where it is saved.
        metrics: the final figures.
    """

    def __init__(self, message: str, folder: Path, metrics: Mapping[str, float]) -> None:
        super().__init__(message)
        self.folder, self.metrics = folder, metrics


@dataclass(frozen=True)
class Divergence:
    """A run that has diverged.

    Attributes:
        start: bits per byte at the first step.
        end: bits per byte at the end, mean of the last tenth of the log lines.
        since: step of the first log line from which on they stayed far above the start.
    """

    start: float
    end: float
    since: int

    def __str__(self) -> str:
        return (
            f"the loss diverged: {self.end:.4g} bits per byte at the end and {self.start:.4g} at "
            f"the first step, far above it since step {self.since}"
        )


class LossWatch(TrainerCallback):
    """Remembers the losses of the first step, and warns once when later ones are far above.

    Attributes:
        start: losses and bits per byte of the first step; empty before it.
    """

    def __init__(self, means: Callable[[], dict[str, float]]) -> None:
        """Watch the losses.

        Args:
            means: returns their means since the last log line. Called once, on every rank.
        """
        self._means = means
        self.start: dict[str, float] = {}
        self._has_warned = False

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Take the losses of the first step, before they are logged with others."""
        if state.global_step == 1:
            self.start = self._means()

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        """Warn where the losses of a log line are far above the start."""
        if (
            self._has_warned
            or not state.is_world_process_zero
            or not self._is_far_above(logs or {})
        ):
            return
        self._has_warned = True
        log.warning(
            "step %d: %.4g bits per byte, and %.4g at the first step: the loss may be diverging. "
            "If it does not fall again, start anew with a lower learning_rate",
            state.global_step,
            logs[_BITS],
            self.start[_BITS],
        )

    def verdict(
        self, means: Mapping[str, float], history: Sequence[Mapping[str, Any]]
    ) -> Divergence | None:
        """What the end of the run says; None where it has not diverged.

        Args:
            means: of the last log lines.
            history: all log lines.
        """
        if not self._is_far_above(means):
            return None
        lines = [line for line in history if _BITS in line and "step" in line]
        near = [i for i, line in enumerate(lines) if line[_BITS] <= FACTOR * self.start[_BITS]]
        since = lines[near[-1] + 1 if near and near[-1] + 1 < len(lines) else 0]
        return Divergence(self.start[_BITS], means[_BITS], int(since["step"]))

    def save(self, folder: Path) -> None:
        """Keep the start in a checkpoint."""
        (folder / _START).write_text(json.dumps(self.start), encoding="utf-8")

    def load(self, folder: Path) -> None:
        """Take the start of the run that is resumed; none from checkpoints of earlier versions."""
        file = folder / _START
        self.start = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}

    def _is_far_above(self, means: Mapping[str, float]) -> bool:
        known = {name: value for name, value in self.start.items() if name in means}
        if _BITS not in known or means[_BITS] <= FACTOR * known[_BITS]:
            return False
        return all(means[name] > value for name, value in known.items())
