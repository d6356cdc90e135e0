"""Going on with a run: what must be as it was, what may be longer, and from where."""

import json
import logging
from dataclasses import fields
from pathlib import Path
from typing import Any

import yaml

from crosstok.recipes import RecipeError, TrainingRecipe, recipe_yaml, saved_values
from crosstok.recipes.in_memory import in_memory_keys
from crosstok.training.checkpoints import last_checkpoint
from crosstok.training.outputs import CHECKPOINTS, FIGURES, RECIPE

_LENGTHS = ("max_steps", "epochs")
_FREE_OF_LENGTH = ("constant", "constant_with_warmup", "inverse_sqrt")

log = logging.getLogger("crosstok")


def check_same_recipe(recipe: TrainingRecipe, output: Path) -> None:
    """Refuse to resume a run with another recipe than it was started with, or one that is done.

    A run may become longer, as long as it has checkpoints; a warning says what that changes.

    Raises:
        RecipeError: names the keys that differ, or says that there is nothing to go on from.
    """
    started = output / RECIPE
    if not recipe.resume or not started.is_file():
        return
    free = {f.name for f in fields(recipe) if f.metadata["on_resume"] == "may change"}
    if recipe.streaming:  # the order of a stream depends on the number of its readers
        free.discard("num_workers")
    old, new = saved_values(type(recipe), started), yaml.safe_load(recipe_yaml(recipe))
    longer = [name for name in _LENGTHS if _is_more(old.get(name), new[name])]
    free |= set(longer)
    changed = sorted(
        k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in free
    )
    if changed:
        differences = ", ".join(f"{k} was {old.get(k)}, is {new.get(k)}" for k in changed)
        raise RecipeError(
            f"cannot resume: {differences}. Only max_steps and epochs may grow. "
            f"{_how_to_resume(old, started)}, or start anew in another output folder."
        )
    _check_not_done(recipe, output)
    for name in longer:
        _warn_of_schedules(recipe, name, old[name])


def resume_point(recipe: TrainingRecipe) -> str | None:
    """The checkpoint to go on from, or None to start at step 0."""
    if not recipe.resume:
        return None
    checkpoint = last_checkpoint(Path(recipe.output) / CHECKPOINTS)
    if checkpoint is None:
        log.warning("nothing to resume in %s: starting at step 0", recipe.output)
        return None
    return str(checkpoint)


def _how_to_resume(old: dict[str, Any], started: Path) -> str:
    if unnamed := in_memory_keys(old):
        return f"Resume in Python with the same objects for {', '.join(unnamed)}"
    return f"Resume with the recipe {started}"


def _is_more(old: Any, new: Any) -> bool:
    return old is not None and new is not None and new > old


def _check_not_done(recipe: TrainingRecipe, output: Path) -> None:
    figures = output / FIGURES
    if not figures.is_file() or last_checkpoint(output / CHECKPOINTS) is not None:
        return
    steps = json.loads(figures.read_text(encoding="utf-8")).get("steps")
    raise RecipeError(
        f"cannot resume: the run in {output} is done ({steps} steps), and its checkpoints were "
        "removed at its end. Use keep_checkpoints for a run that you may want to extend. To train "
        f"its model further, start a run from {output} in another output folder; to train anew, "
        "use overwrite without resume."
    )


def _warn_of_schedules(recipe: TrainingRecipe, name: str, old: Any) -> None:
    """Say which schedules are those of the new length only from here on."""
    is_free = recipe.lr_scheduler in _FREE_OF_LENGTH and (
        recipe.lr_scheduler == "constant" or recipe.warmup_steps is not None
    )
    changed = [] if is_free else [f"lr_scheduler {recipe.lr_scheduler}"]
    if any(isinstance(weight, list) for weight in (recipe.weights or {}).values()):
        changed.append("weights that change over the run")
    if changed:
        log.warning(
            "%s was %s, is %s: %s, which depend on the length, are those of the longer run from "
            "here on, so the result is not that of one run of %s; with lr_scheduler constant it is",
            name,
            old,
            getattr(recipe, name),
            " and ".join(changed),
            recipe.length,
        )
