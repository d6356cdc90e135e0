"""Items of exams and tasks with a model's scores, as JSON lines: what lies under the figures."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np


class SampleFiles:
    """A model's samples: `FOLDER/MODEL/samples_NAME.jsonl`, one file for each exam and task.

    A line is written when its item is done, so that a failure later costs none of them.
    """

    def __init__(self, folder: str | Path, model: str) -> None:
        """Name the folder; it is made with the first sample.

        Args:
            folder: where the folders of all models are.
            model: the model's name; slashes and other characters that file names lack become `__`.
        """
        self.folder = Path(folder).expanduser() / _file_name(model)
        self._started: set[str] = set()

    def write(self, name: str, samples: Iterable[Any]) -> None:
        """Append samples to the file of an exam or task; the first call replaces an older file.

        Raises:
            OSError: the file cannot be written.
        """
        file = self.folder / f"samples_{_file_name(name)}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        mode = "a" if name in self._started else "w"
        self._started.add(name)
        with file.open(mode, encoding="utf-8") as stream:
            for sample in samples:
                line = json.dumps(sample, ensure_ascii=False, default=_plain)
                stream.write(line + "\n")


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.\-]+", "__", name).strip("_.") or "model"


def _plain(value: Any) -> Any:
    """Values that JSON lacks: numpy's numbers, sets, and anything else as text."""
    if isinstance(value, np.generic):
        return value.item()
    return sorted(value, key=str) if isinstance(value, set) else str(value)
