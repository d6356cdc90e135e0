"""Compare models: bits per byte, exams, tasks, likeness to a teacher."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from crosstok.evaluation import EvaluationError, render_table
from crosstok.evaluation import evaluate as compare
from crosstok.jobs.json_file import check_writable, write_json
from crosstok.jobs.result import JobResult
from crosstok.recipes import EvaluateRecipe, takes


@dataclass(frozen=True, kw_only=True, repr=False)
class EvaluateResult(JobResult):
    """What a comparison found.

    Attributes:
        folder: that of the JSON file; None where none was asked for.
        metrics: every figure, by ``model/section/name/figure``: ``gpt2/data/prose/bits_per_byte``.
        models: a mapping for each model, as the JSON file has them.
    """

    models: list[dict[str, Any]]

    def __repr__(self) -> str:
        console = Console(width=120)
        with console.capture() as capture:
            console.print(render_table({"models": self.models}))
        return capture.get().rstrip("\n")


@takes(EvaluateRecipe)
def evaluate(recipe: EvaluateRecipe) -> EvaluateResult:
    """Compare the models of a recipe.

    Raises:
        ValueError: nothing to evaluate, or an input that cannot be used.
        EvaluationError: something failed later; it carries the figures of all the rest, which are
            also in the JSON file if one was asked for.
    """
    recipe.check_device()
    check_writable(json=recipe.json)
    try:
        found = compare(
            recipe.model,
            recipe.data or (),
            recipe.exam or (),
            tasks=recipe.task or (),
            teacher=recipe.teacher,
            options=recipe.options(),
        )
    except EvaluationError as error:
        if fault := _write(recipe, error.result):
            raise EvaluationError([*error.failures, fault], error.result) from error
        raise
    if fault := _write(recipe, found):
        raise EvaluationError([fault], found)
    folder = None if recipe.json is None else Path(recipe.json).parent
    models = found["models"]
    return EvaluateResult(folder=folder, metrics=dict(_figures(models)), models=models)


def _write(recipe: EvaluateRecipe, found: dict[str, Any]) -> str | None:
    """Write the file that was asked for; what went wrong, if it did."""
    try:
        write_json(recipe.json, found)
    except OSError as error:
        return f"json {recipe.json} could not be written: {error}"
    return None


def _figures(models: list[dict[str, Any]]) -> list[tuple[str, float]]:
    figures = []
    for model in models:
        sections = {name: found for name, found in model.items() if isinstance(found, Mapping)}
        for section, by_name in sections.items():
            figures += [
                (f"{model['model']}/{section}/{name}/{figure}", value)
                for name, values in by_name.items()
                for figure, value in _flat(values)
            ]
    return figures


def _flat(values: Mapping[str, Any]) -> list[tuple[str, float]]:
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += [(f"{name}/{inner}", number) for inner, number in _flat(value)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            found.append((name, float(value)))
    return found
