"""Where models are put: by default an accelerator, or the device that a person names."""

import logging

import torch

log = logging.getLogger("crosstok")


def default_device() -> torch.device:
    """Return this machine's accelerator; the CPU if it has none, or one without float64.

    Losses and counts are summed in float64, which Apple's GPUs do not support.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is not None and found.type == "mps":
        log.warning("this machine's GPU (mps) has no float64: everything runs on the CPU")
        found = None
    return torch.device("cpu") if found is None else found


def find_device(name: str | None) -> torch.device:
    """Return the device of a name, if this machine has it.

    Args:
        name: as torch calls it (``cpu``, ``cuda``, ``cuda:1``, ...); None for `default_device`.

    Raises:
        ValueError: this machine has no such device (names those that it has), or it lacks float64.
    """
    if name is None:
        return default_device()
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:  # the second if torch was built without it
        raise ValueError(f"device {name!r} cannot be used: {_what_there_is()}.") from error
    if device.type == "mps":
        raise ValueError(
            f"device {name!r} cannot be used: it has no float64, in which losses and counts are "
            "summed. Use cpu."
        )
    if device.type == "meta":
        raise ValueError(f"device {name!r} holds no numbers: {_what_there_is()}.")
    return device


def _what_there_is() -> str:
    """In words: the devices to choose from."""
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is None or found.type == "mps":
        return "this machine has only cpu. Use cpu, or leave device out"
    names = ", ".join(f"{found.type}:{i}" for i in range(torch.accelerator.device_count()))
    return f"this machine has cpu and {names}. Use one of them, or leave device out"
