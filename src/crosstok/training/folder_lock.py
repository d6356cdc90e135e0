"""One run at a time in an output folder: a file that says which process writes there."""

import json
import logging
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil  # type: ignore[import-untyped]

LOCK = ".crosstok-lock"

log = logging.getLogger("crosstok")


def check_unlocked(folder: Path) -> None:
    """Refuse a folder that another run is writing to.

    Raises:
        ValueError: it is locked by a process that runs, or may run on another machine.
    """
    if (folder / LOCK).is_file() and not _is_stale(folder / LOCK):
        raise ValueError(_in_use(folder))


def lock_folder(folder: Path) -> None:
    """Lock a folder, which is made if it is not there, for this process.

    The lock of a process of this machine that runs no more is replaced.

    Raises:
        ValueError: another run has locked it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = folder / LOCK
    if lock.is_file() and _is_stale(lock):
        log.info("%s: the run that wrote here before was killed; its lock is replaced", folder)
        lock.unlink(missing_ok=True)
    try:
        handle = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
    except FileExistsError as error:
        raise ValueError(_in_use(folder)) from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(_this_process(), file)


def unlock_folder(folder: Path) -> None:
    """Let others write to the folder, if this process has locked it."""
    lock = folder / LOCK
    if lock.is_file() and _read(lock) == _this_process():
        lock.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder while something is written there.

    Raises:
        ValueError: another run has locked it.
    """
    lock_folder(folder)
    try:
        yield
    finally:
        unlock_folder(folder)


def _this_process() -> dict[str, object]:
    process = psutil.Process()
    started = round(process.create_time(), 1)  # numbers of processes are used again
    return {"host": platform.node(), "process": process.pid, "started": started}


def _read(lock: Path) -> dict[str, object]:
    try:
        held = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # it is just being written, or removed
        return {}
    return held if isinstance(held, dict) else {}


def _is_stale(lock: Path) -> bool:
    """Whether its process ran on this machine, and runs no more."""
    held = _read(lock)
    if held.get("host") != platform.node():
        return False
    try:
        started = round(psutil.Process(int(str(held.get("process")))).create_time(), 1)
    except (psutil.Error, ValueError):
        return True
    return bool(started != held.get("started"))


def _in_use(folder: Path) -> str:
    held = _read(folder / LOCK)
    by = f"process {held.get('process')} on {held.get('host')}" if held else "another process"
    return (
        f"output {folder} is in use: {by} writes there. Choose another folder, or wait until it is "
        f"done. If that process was killed, delete {folder / LOCK}, then repeat the command with "
        "resume."
    )
