"""Classes by name: those of a table, those that installed packages announce, and `module:Class`.

Every kind of part that can be added from outside (objectives, ways to transplant) is looked up
here, so that all of them enter by the same door and fail with the same words.

The current folder is searched only by :func:`import_typed`, which the command line calls for the
names that were typed there. A name in a recipe file, or announced by a package, must be importable
as it is: reading somebody's recipe never runs a file that happens to lie beside it.
"""

import difflib
import importlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import reduce
from importlib.metadata import entry_points
from pathlib import Path


def resolve(name: str, known: Mapping[str, str], group: str, what: str) -> type:
    """The class that a name stands for.

    Args:
        name: a key of ``known``, the name of an entry point, or ``module:Class``.
        known: our own: ``module:Class`` by name. They win over entry points of the same name.
        group: of the entry points, such as ``crosstok.objectives``.
        what: the kind of part, for errors: ``objective``.

    Raises:
        ValueError: the name is unknown (names the nearest), its module cannot be imported (with
            the reason), or there is no such class in it.
    """
    if name in known:
        return _import_class(known[name], what)
    if ":" in name:
        return _import_class(name, what)
    found = [point for point in entry_points(group=group) if point.name == name]
    if not found:
        listed = names(known, group)
        raise ValueError(
            f"unknown {what} {name!r}{_nearest(name, listed)} There are {', '.join(listed)}; "
            "one of your own is written module:Class."
        )
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} installed packages announce the {what} {name!r}: "
            f"{', '.join(point.value for point in found)}. Write the one you mean as module:Class."
        )
    return _import_class(f"{found[0].module}:{found[0].attr}", what)


def names(known: Mapping[str, str], group: str) -> list[str]:
    """Every name that needs no module: ours in their order, then those of installed packages."""
    announced = {point.name for point in entry_points(group=group)}
    return [*known, *sorted(announced - known.keys())]


def import_typed(name: str, what: str) -> None:
    """Import the class of a ``module:Class`` that was typed; its module may be a file right here.

    The current folder is searched first, and only while this module is imported. Later lookups of
    the same name find the imported module.

    Raises:
        ValueError: as :func:`resolve`.
    """
    with _current_folder_first():
        _import_class(name, what)


@contextmanager
def _current_folder_first() -> Iterator[None]:
    folder = str(Path.cwd())
    importlib.invalidate_caches()
    sys.path.insert(0, folder)
    try:
        yield
    finally:
        sys.path.remove(folder)


def _import_class(place: str, what: str) -> type:
    module_name, _, path = place.partition(":")
    if not module_name or not path:
        raise ValueError(
            f"{what} {place!r} is not of the form module:Class; write, for example, "
            "my_package.my_module:MyClass."
        )
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # whatever the module does while it is imported
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(
            f"{what} {place!r}: importing {module_name!r} failed with {type(error).__name__}: "
            f"{reason}. {_next_step(module_name, error)}"
        ) from error
    try:
        found = reduce(getattr, path.split("."), module)
    except AttributeError as error:
        raise ValueError(
            f"{what} {place!r}: module {module_name!r} has no {path!r}"
            f"{_nearest(path, vars(module))} It was read from {getattr(module, '__file__', None)}."
        ) from error
    if not isinstance(found, type):
        raise ValueError(
            f"{what} {place!r} is {found!r}, and not a class; name the class, without options."
        )
    return found


def _next_step(module_name: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module_name}.".startswith(f"{missing}."):
        return f"Correct it; `python -c 'import {module_name}'` shows where."
    return (
        "It was looked for among the installed packages and on PYTHONPATH; in the current folder "
        "only where the name is typed on the command line. Install it, or run in its folder with "
        "PYTHONPATH=."
    )


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else "."
