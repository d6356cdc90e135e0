"""Stop a run that is asked to: after the step, with a checkpoint, on all ranks at the same step."""

from typing import Any

from torch import Tensor
from transformers import TrainerCallback


class StopAfterStep(TrainerCallback):
    """Ends training, with a log line and a checkpoint, once a signal has asked for it.

    Attributes:
        signal_number: of the signal that asked; None before.
    """

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._is_agreed: bool | None = None  # None: there is only one rank

    def ask(self, signal_number: int) -> None:
        """Ask for the end. Does nothing else, so that a signal handler may call it at any time."""
        self.signal_number = signal_number

    @property
    def is_due(self) -> bool:
        """Whether training ends with this step."""
        return self.signal_number is not None if self._is_agreed is None else self._is_agreed

    def flags(self, *, can_go_on: bool) -> list[float]:
        """What a rank says before a step: it was asked to stop; it cannot make the step."""
        return [float(self.signal_number is not None), float(not can_go_on)]

    def agree(self, flags: Tensor, num_ranks: int) -> bool:
        """Take the sum of the flags of all ranks, and return whether the step can be made.

        Args:
            flags: sum of `flags` over the ranks.
            num_ranks: how many there are.
        """
        if num_ranks == 1 and self.signal_number is None:
            return True  # nothing is read from the device
        asked, stuck = flags.tolist()
        self._is_agreed = None if num_ranks == 1 else bool(asked or stuck)
        return not stuck

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """End training here if that is due."""
        if self.is_due:
            self.end(control)

    @staticmethod
    def end(control: Any) -> None:
        """Log, save and stop where the run stands."""
        control.should_log = control.should_save = control.should_training_stop = True
