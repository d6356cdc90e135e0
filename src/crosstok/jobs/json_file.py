"""Files that a job writes beside what it returns: what ``--json`` and ``--html`` name."""

import json
import os
from pathlib import Path
from typing import Any

from crosstok.recipes import RecipeError


def check_writable(**files: str | None) -> None:
    """Refuse files that cannot be written, before anything is computed for them.

    Args:
        files: path by the name of its option; None where none was asked for.

    Raises:
        RecipeError: one is a folder, or its folder cannot be made or written to.
    """
    for option, file in files.items():
        if file is None:
            continue
        path = Path(file).expanduser().absolute()
        if path.is_dir():
            raise RecipeError(
                f"{option} {file} is a folder; give the path of a file, such as "
                f"{Path(file) / f'figures.{option}'}."
            )
        nearest = next(place for place in (path, *path.parents) if place.exists())
        is_ready = nearest == path or nearest.is_dir()
        if not is_ready or not os.access(nearest, os.W_OK):
            why = "may not be written to" if is_ready else "is a file"
            raise RecipeError(
                f"{option} {file} cannot be written: {nearest} {why}. Give a path elsewhere."
            )


def write_json(file: str | None, values: Any) -> None:
    """Write plain values as indented JSON, if a file was asked for; makes its folder."""
    if file is None:
        return
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
