"""Checkpoints that are whole or not there: killed or full disks never cost the one before."""

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_COMPLETE = "complete"

log = logging.getLogger("crosstok")


class SaveError(OSError):
    """Saving failed; what was saved before stands."""


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Remove the half-written folder and say what stands if saving into it fails.

    Raises:
        SaveError: in place of the OSError, with the next step.
    """
    try:
        yield
    except Exception as error:
        if not is_io_error(error):
            raise
        shutil.rmtree(folder, ignore_errors=True)
        stands = last_checkpoint(folder.parent)
        kept = f"The checkpoint {stands} stands" if stands else "No earlier checkpoint was saved"
        raise SaveError(
            f"could not save {folder}: {error}. {kept}; the half-written one is gone. Make room "
            "(or choose another output), then run the same again with resume."
        ) from error


def mark_complete(folder: Path) -> None:
    """Say that everything in a checkpoint has been written. Called last."""
    if folder.is_dir():
        (folder / _COMPLETE).touch()


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint in a folder; half-written ones are passed over."""
    whole = [
        checkpoint
        for checkpoint in folder.glob("checkpoint-*")
        if (checkpoint / _COMPLETE).exists() and checkpoint.name.split("-")[-1].isdigit()
    ]
    return max(whole, key=lambda checkpoint: int(checkpoint.name.split("-")[-1]), default=None)


def remove_checkpoints(folder: Path) -> None:
    """Remove every checkpoint in a folder, and the folder if nothing else is in it.

    Each is first marked as incomplete, so that none is taken for whole if this is cut short.
    A failure is a warning: the model is saved by then.
    """
    for checkpoint in sorted(folder.glob("checkpoint-*")):
        is_ours = checkpoint.is_dir() and checkpoint.name.split("-")[-1].isdigit()
        if not is_ours or checkpoint.is_symlink():
            continue
        try:
            (checkpoint / _COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(checkpoint)
        except OSError as error:
            log.warning("the checkpoint %s could not be removed: %s", checkpoint, error)
    if folder.is_dir() and not folder.is_symlink() and not any(folder.iterdir()):
        folder.rmdir()


def is_io_error(error: BaseException) -> bool:
    """Whether it is about the disk: safetensors and torch wrap OSErrors in errors of their own."""
    if isinstance(error, OSError):
        return True
    text = str(error)
    signs = ("No space left", "os error", "I/O error", "file write failed", "iostream error")
    return error.__class__.__name__ == "SafetensorError" or any(sign in text for sign in signs)
