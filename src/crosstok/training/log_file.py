"""``log.jsonl``: what was logged, a line as it comes, to plot a run from."""

import json
import logging
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

LOG = "log.jsonl"

log = logging.getLogger("crosstok")


class LogFile(TrainerCallback):
    """Writes every log line of a run; of a resumed one also those up to its checkpoint.

    A file that cannot be written costs a warning, not the run.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._is_open = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin with the lines that there are."""
        if state.is_world_process_zero:
            self._is_open = True
            self._write(state.log_history, "w")

    def on_log(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Append the last line, which is of this log."""
        if self._is_open:
            self._write(state.log_history[-1:], "a")

    def _write(self, lines: list[dict[str, Any]], mode: str) -> None:
        try:
            with self._file.open(mode, encoding="utf-8") as file:
                file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        except OSError as error:
            log.warning("%s is not written any further: %s", self._file, error)
            self._is_open = False
