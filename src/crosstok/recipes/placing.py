"""The option of where a job runs."""

from dataclasses import dataclass
from typing import Annotated

import pydantic

from crosstok.plugins import nearest
from crosstok.recipes.fields import CheckedRecipe, RecipeError, option

_DEVICES = ("cpu", "cuda", "mps", "xpu", "npu", "hpu", "mlu", "musa", "mtia", "sdaa")


def _check_device(name: str) -> str:
    kind, _, number = name.partition(":")
    if kind not in _DEVICES or not (number.isdecimal() or kind == name):
        raise ValueError(
            f"it must be a device of torch, such as cpu, cuda or cuda:1{nearest(kind, _DEVICES)}"
        )
    return name


# torch's name of a device, which this machine need not have.
DeviceName = Annotated[str, pydantic.AfterValidator(_check_device)]


@dataclass(frozen=True, kw_only=True)
class PlacedRecipe(CheckedRecipe):
    """Where a job puts its models."""

    device: DeviceName | None = option(
        "cpu, cuda, cuda:1, ...; the accelerator, if there is one.",
        None,
        group="output and run",
        on_resume="may change",
    )

    def check_device(self) -> None:
        """Check that this machine has the device.

        Raises:
            RecipeError: it does not; names those that it has.
        """
        from crosstok.models import find_device

        try:
            find_device(self.device)
        except ValueError as error:
            raise RecipeError(str(error)) from error
