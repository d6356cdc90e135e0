"""What signals do to a run: the first asks for a checkpoint and the end, a second ends it."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from crosstok.training.checkpoints import last_checkpoint

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """A run was stopped by Ctrl-C or SIGTERM; it can be resumed from its last checkpoint.

    Attributes:
        signal_number: of the signal.
        checkpoint: the last whole checkpoint; None where none was saved.
    """

    def __init__(self, signal_number: int, checkpoint: Path | None) -> None:
        self.signal_number, self.checkpoint = signal_number, checkpoint
        stands = "no checkpoint was saved" if checkpoint is None else f"{checkpoint} is saved"
        super().__init__(f"stopped by {signal.Signals(signal_number).name}: {stands}.")


@contextmanager
def naming_checkpoint(folder: Path) -> Iterator[None]:
    """Let whatever stops the body name the last checkpoint of the folder.

    Raises:
        Stopped: the body was interrupted.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        raise Stopped(number, last_checkpoint(folder)) from stop


@contextmanager
def signals_ask(ask: Callable[[int], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM ask for the end, the first time; a second signal interrupts at once.

    Does nothing outside the main thread, where Python handles no signals. The former handlers are
    back after the body.

    Args:
        ask: called by the first signal.

    Raises:
        KeyboardInterrupt: a second signal came.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner, asked = os.getpid(), False

    def on_signal(number: int, frame: Any) -> None:
        nonlocal asked
        if os.getpid() != owner:  # a worker that was forked: its owner decides
            return
        if asked:
            raise _Interrupted(number)
        asked = True
        # A data loader raises when a worker dies: the signal may have ended its workers, too.
        held[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _say("stopping after this step, with a checkpoint; again to leave at once")
        ask(number)

    held: dict[int, Any] = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in held.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)


class _Interrupted(KeyboardInterrupt):
    def __init__(self, signal_number: int) -> None:
        super().__init__()
        self.signal_number = signal_number


def _say(text: str) -> None:
    """Write a line past every buffer, which the signal may have interrupted."""
    if os.environ.get("RANK", "0") == "0":
        os.write(2, f"\n{text}\n".encode())
