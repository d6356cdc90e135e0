"""The default device of models."""

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
