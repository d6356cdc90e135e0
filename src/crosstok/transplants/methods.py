"""Transplant methods by name, their options, and a check of what they need."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pydantic

from crosstok.choices import METHODS
from crosstok.models import check_model_exists
from crosstok.plugins import resolve
from crosstok.transplants.base import Resources, TransplantMethod

GROUP = "crosstok.transplants"
"""Entry points by which installed packages add methods: ``name = "package.module:Class"``."""

_RESOURCES = {
    "donor": "the name or folder of a model",
    "vectors": "the path of a file of word vectors",
    "texts": "a data set, file or folder of texts",
}


def find_method(method: str | TransplantMethod) -> TransplantMethod:
    """Find a method by name, with default options; a method object is returned as it is.

    Args:
        method: a name in METHODS, one that an installed package adds, ``package.module:Class``, or
            a method.

    Raises:
        ValueError: the name is unknown, the class cannot be used, or an option has no default.
    """
    if isinstance(method, str):
        return make_method(method, {})
    if isinstance(method, type):
        raise ValueError(
            f"method is the class {method.__qualname__}; it must be an object. "
            f"Pass {method.__qualname__}()."
        )
    return _checked(method, describe_method(method))


def make_method(name: str, options: Mapping[str, Any]) -> TransplantMethod:
    """Make the method of this name, with these options.

    Raises:
        ValueError: the name is unknown (the nearest is suggested), the class cannot be used, or the
            method has no such option or does not accept its value.
    """
    cls: Any = resolve(name, METHODS, GROUP, "transplant method")
    known = [f.name for f in fields(cls) if f.init] if is_dataclass(cls) else []
    for option in options:
        if option not in known:
            raise ValueError(
                f"transplant method {name!r} has no option {option!r}. Its options are: "
                f"{', '.join(known) or 'none'}. Take it out, or correct it."
            )
    try:
        made = pydantic.TypeAdapter(cls).validate_python(dict(options)) if known else cls()
    except TypeError as error:
        raise ValueError(
            f"transplant method {name!r} cannot be made without arguments ({error}). "
            "Make it a dataclass, whose fields method_options sets."
        ) from error
    except pydantic.ValidationError as error:
        problems = "; ".join(map(_problem, error.errors()))
        raise ValueError(
            f"the options of transplant method {name!r} do not fit: {problems}. "
            "Set them in method_options, as KEY=VALUE."
        ) from error
    return _checked(made, name)


def _problem(error: Any) -> str:
    """Text of one of pydantic's errors, with the name of the option if it concerns one."""
    option = ".".join(map(str, error["loc"]))
    if error["type"] == "missing":
        return f"{option} is missing"
    return f"{option} = {error['input']!r}: {error['msg']}" if option else str(error["msg"])


def split_options(
    options: Mapping[str, Any], *, trust_remote_code: bool = False
) -> tuple[Resources, dict[str, Any]]:
    """Split the one mapping of a recipe into resources and the method's own options.

    Args:
        options: donor, vectors and texts name resources (or are None); all others are options of
            the method.
        trust_remote_code: whether Python code of the donor may be executed.
    """
    given = {name: str(options[name]) for name in _RESOURCES if options.get(name) is not None}
    own = {name: value for name, value in options.items() if name not in _RESOURCES}
    return Resources(**given, trust_remote_code=trust_remote_code), own


def check_resources(method: TransplantMethod, resources: Resources) -> None:
    """Check, before anything is loaded, that a method gets exactly the resources that it needs.

    Raises:
        ValueError: a resource is missing, does not exist, or is not used by the method.
    """
    name = describe_method(method)
    for resource, what in _RESOURCES.items():
        given = getattr(resources, resource)
        if getattr(method.needs, resource) == (given is not None):
            continue
        if given is None:
            raise ValueError(
                f"transplant method {name!r} needs {resource}, {what}, which is missing. "
                f"Give it in method_options, as {resource}=..., or choose another method; "
                f"in Python, pass resources=Resources({resource}=...)."
            )
        raise ValueError(
            f"{resource} is {given!r}, but transplant method {name!r} does not use it. "
            "Take it out of method_options, or choose a method that does."
        )
    if resources.donor is not None:
        check_model_exists(resources.donor)
    if resources.vectors is not None and not Path(resources.vectors).expanduser().is_file():
        raise ValueError(
            f"vectors is {resources.vectors!r}, and there is no such file. "
            "Give the path of a file of word vectors."
        )


def describe_method(method: TransplantMethod) -> str:
    """Return the name of a method: its name in METHODS, or ``package.module:Class``."""
    path = f"{type(method).__module__}:{type(method).__qualname__}"
    return next((name for name, spec in METHODS.items() if spec == path), path)


def _checked(method: Any, name: str) -> TransplantMethod:
    """Return the object itself if it is a method."""
    lacking = [part for part in ("needs", "row_label") if not hasattr(method, part)]
    lacking += [] if callable(method) else ["__call__"]
    if lacking:
        raise ValueError(
            f"{name!r} is not a transplant method: it lacks {', '.join(lacking)}. "
            "A method has needs, row_label and __call__, as docs/methods/transplant.md explains."
        )
    taken = [f.name for f in fields(method) if f.name in _RESOURCES] if is_dataclass(method) else []
    if taken:
        raise ValueError(
            f"transplant method {name!r} has an option {taken[0]!r}, which is the name of a "
            "resource. Declare it in needs, and read it from inputs.resources."
        )
    checked: TransplantMethod = method
    return checked
