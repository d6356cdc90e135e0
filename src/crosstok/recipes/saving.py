"""Options of what a job leaves: on disk, and on the hub."""

from dataclasses import dataclass
from typing import Literal

from crosstok.recipes.fields import CheckedRecipe, RecipeError, option

_GROUP = "output and run"


@dataclass(frozen=True, kw_only=True)
class PublishedRecipe(CheckedRecipe):
    """Whether the result goes to the hub."""

    push_to_hub: str | None = option(
        "Upload the result to this repository, USER/NAME.",
        None,
        group=_GROUP,
        on_resume="may change",
    )
    hub_private: bool = option(
        "Make that repository private if it is new.", False, group=_GROUP, on_resume="may change"
    )

    def __post_init__(self) -> None:
        """Check every value, and how they fit together."""
        super().__post_init__()
        if self.hub_private and self.push_to_hub is None:
            raise RecipeError(
                "hub_private is given, and without push_to_hub nothing is uploaded. Add "
                "push_to_hub, or leave hub_private out."
            )


@dataclass(frozen=True, kw_only=True)
class SavingRecipe(PublishedRecipe):
    """What a training run leaves."""

    load_best: bool = option(
        "Save the model that was best on the held-out data.",
        False,
        group="held-out data",
        on_resume="may change",
    )
    lora_output: Literal["merged", "adapter"] = option(
        "Save a plain model, or adapters for peft.",
        "merged",
        group="LoRA",
        on_resume="may change",
    )
    keep_checkpoints: bool = option(
        "Keep the checkpoints when the run is done, to extend it.",
        False,
        group=_GROUP,
        on_resume="may change",
    )
