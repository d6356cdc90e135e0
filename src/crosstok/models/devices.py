"""Where models go of which nothing is said."""

import logging

import torch

log = logging.getLogger("crosstok")


def default_device() -> torch.device:
    """The accelerator of this machine; the CPU where there is none, or one without float64.

    Losses, counts and draws are summed in float64, which Apple's GPUs do not have.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    if found is not None and found.type == "mps":
        log.warning("this machine's GPU (mps) has no float64: everything runs on the CPU")
        found = None
    return torch.device("cpu") if found is None else found
