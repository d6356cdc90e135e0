"""Let jobs take a recipe, or its options as keywords."""

import inspect
from collections.abc import Callable
from dataclasses import MISSING, fields
from functools import wraps
from typing import Any, Protocol, TypeVar, cast, get_type_hints

from crosstok.recipes.fields import RecipeError, load_recipe

Recipe = TypeVar("Recipe")
Recipe_contra = TypeVar("Recipe_contra", contravariant=True)
Result_co = TypeVar("Result_co", covariant=True)


class Job(Protocol[Recipe_contra, Result_co]):
    """A job, called with a recipe or with its options."""

    def __call__(self, recipe: Recipe_contra | None = None, /, **options: Any) -> Result_co:
        """Run the job."""
        ...


def takes(
    recipe_type: type[Recipe],
) -> Callable[[Callable[..., Result_co]], Job[Recipe, Result_co]]:
    """Let a function of a recipe be called with the recipe's options instead.

    ``transfer(TransferRecipe(model=..., ...))`` and ``transfer(model=..., ...)`` are the same.
    Options are checked like those of a YAML file; paths may be `pathlib.Path`. The function's other
    parameters can be given with either.

    Raises:
        RecipeError: (when called) the options do not make a recipe, or are given with a recipe.
    """

    def decorate(job: Callable[..., Result_co]) -> Job[Recipe, Result_co]:
        extra = list(inspect.signature(job).parameters.values())[1:]
        own = {parameter.name for parameter in extra}

        @wraps(job)
        def call(recipe: Recipe | None = None, /, **options: Any) -> Result_co:
            beside = {name: options.pop(name) for name in own & options.keys()}
            return job(_build(recipe_type, job.__name__, recipe, options), **beside)

        call.__signature__ = _signature(recipe_type, extra)  # type: ignore[attr-defined]
        return cast(Job[Recipe, Result_co], call)

    return decorate


def _build(
    recipe_type: type[Recipe], name: str, recipe: Recipe | None, options: dict[str, Any]
) -> Recipe:
    if recipe is None:
        return load_recipe(recipe_type, None, options)
    if not isinstance(recipe, recipe_type):
        raise RecipeError(
            f"{name} takes a {recipe_type.__name__} or its options as keywords, and the argument "
            f"is {recipe!r:.80}."
        )
    if options:
        raise RecipeError(
            f"{name} was called with a recipe and also {', '.join(sorted(options))}. Put them into "
            "the recipe (dataclasses.replace), or give all options as keywords."
        )
    return recipe


def _signature(recipe_type: type[Any], extra: list[inspect.Parameter]) -> inspect.Signature:
    """The recipe's fields as keywords, for ``help`` and for completion."""
    hints = get_type_hints(recipe_type)
    first = inspect.Parameter(
        "recipe",
        inspect.Parameter.POSITIONAL_ONLY,
        default=None,
        annotation=recipe_type | None,
    )
    keywords = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=inspect.Parameter.empty if field.default is MISSING else field.default,
            annotation=hints[field.name],
        )
        for field in fields(recipe_type)
    ]
    known = {parameter.name for parameter in extra}
    keywords = [parameter for parameter in keywords if parameter.name not in known]
    extra = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in extra]
    return inspect.Signature([first, *keywords, *extra])
