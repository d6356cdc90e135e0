"""The output folder of a run: plain files that load anywhere, and how it was made."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from crosstok.training.checkpoints import SaveError, is_io_error, last_checkpoint
from crosstok.training.folder_lock import LOCK
from crosstok.training.tokenizer_files import save_tokenizer

CHECKPOINTS = "checkpoints"
RECIPE = "recipe.yaml"
FIGURES = "training.json"


def check_output_folder(folder: Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Refuse a folder that holds something, before any work is done.

    Raises:
        ValueError: it is a file or cannot be made, or it is not empty and neither flag is given.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"output {folder} is a file; give the path of a folder.")
    nearest = next(
        path for path in (folder.absolute(), *folder.absolute().parents) if path.exists()
    )
    if not nearest.is_dir() or not os.access(nearest, os.W_OK):
        why = "may not be written to" if nearest.is_dir() else "is a file"
        raise ValueError(
            f"output {folder} cannot be made: {nearest} {why}. Give a folder elsewhere."
        )
    if resume or overwrite or not folder.is_dir():
        return
    held = sorted(entry.name for entry in folder.iterdir() if entry.name != LOCK)
    if held:
        more = f" and {len(held) - 3} more" if len(held) > 3 else ""
        stands = (
            " It holds a checkpoint: resume continues from it." if _has_checkpoint(folder) else ""
        )
        raise ValueError(
            f"output {folder} already holds {', '.join(held[:3])}{more}. Choose another folder, "
            f"or use overwrite to replace what is there.{stands}"
        )


def clear_output_folder(folder: Path) -> None:
    """Empty the folder. Called only after everything a run needs has been loaded."""
    for entry in list(folder.iterdir()) if folder.is_dir() else []:
        if entry.name == LOCK:
            continue
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()


def save_outputs(
    folder: Path,
    write_model: Callable[[Path], None],
    tokenizer: PreTrainedTokenizerBase,
    files: Mapping[str, str],
) -> list[str]:
    """Write model, tokenizer and text files into the folder: all of them, or none.

    Args:
        folder: made if it is not there.
        write_model: writes the model's files into a folder.
        tokenizer: saved beside it.
        files: name to content.

    Returns:
        The names of what was written.

    Raises:
        SaveError: the disk is full or cannot be written; what was there before stands.
    """
    folder.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".saving-", dir=folder))
    try:
        write_model(partial)
        save_tokenizer(partial, tokenizer)
        for name, content in files.items():
            (partial / name).write_text(content, encoding="utf-8")
        written = sorted(entry.name for entry in partial.iterdir())
        for name in written:
            _replace(partial / name, folder / name)
    except Exception as error:
        if not is_io_error(error):
            raise
        checkpoint = last_checkpoint(folder / CHECKPOINTS)
        stands = f"The checkpoint {checkpoint} stands: resume" if checkpoint else "A rerun"
        raise SaveError(
            f"could not save the model to {folder}: {error}. {stands} saves it without training "
            "again, once there is room."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return written


def _replace(source: Path, target: Path) -> None:
    """Move a file or folder to where an earlier one may be."""
    if source.is_dir() and target.is_dir():
        shutil.rmtree(target)
    os.replace(source, target)


def to_json(values: Mapping[str, Any]) -> str:
    """Indented JSON with a final newline."""
    return json.dumps(values, indent=2, ensure_ascii=False) + "\n"


def _has_checkpoint(folder: Path) -> bool:
    return last_checkpoint(folder / CHECKPOINTS) is not None
