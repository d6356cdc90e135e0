"""Ctrl-C and SIGTERM end a command in one line, with the exit status that a shell expects."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape


class _Terminated(KeyboardInterrupt):
    """The process was asked to end by SIGTERM."""

    signal_number = signal.SIGTERM


def heed_sigterm() -> None:
    """Let SIGTERM interrupt the command like Ctrl-C, so that it ends in one line, too."""

    def on_signal(number: int, frame: Any) -> None:
        raise _Terminated

    signal.signal(signal.SIGTERM, on_signal)


@contextmanager
def stopped_in_one_line() -> Iterator[None]:
    """End the command where the body is interrupted: status 130 for Ctrl-C, 143 for SIGTERM."""
    try:
        yield
    except KeyboardInterrupt as stop:
        number = getattr(stop, "signal_number", signal.SIGINT)
        text = str(stop) or f"stopped by {signal.Signals(number).name}."
        if getattr(stop, "checkpoint", None) is not None:
            text += " To go on, repeat the command with --resume."
        Console(stderr=True).print(escape(text), soft_wrap=True, highlight=False)
        raise SystemExit(128 + number) from stop
