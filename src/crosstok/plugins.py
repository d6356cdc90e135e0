"""Look up classes by name: built-in ones, those that installed packages announce, `module:Class`.

Every kind of part that can be plugged in from outside (objectives, transplant methods) is looked up
here, so that all kinds follow the same rules and fail with the same messages.

The current folder is searched only by :func:`import_typed`, which the command line calls for the
names that were typed there. A name in a recipe file, or announced by a package, must be importable
as it is: reading a recipe never runs a file that happens to lie in the same folder.
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
    """Import the class that a name stands for.

    Args:
        name: a key of ``known``, the name of an entry point, or ``module:Class``.
        known: the built-in classes, as ``module:Class`` by name. They take precedence over entry
            points of the same name.
        group: the group of the entry points, such as ``crosstok.objectives``.
        what: the kind of part, for error messages, such as ``objective``.

    Raises:
        ValueError: the name is unknown (the message suggests the nearest), its module cannot be
            imported (the message gives the reason), or the module has no such class.
    """
    if name in known:
        return _import_class(known[name], what)
    if ":" in name:
        return _import_class(name, what)
    found = [point for point in entry_points(group=group) if point.name == name]
    if not found:
        listed = names(known, group)
        raise ValueError(
            f"unknown {what} {name!r}{nearest(name, listed)} There are {', '.join(listed)}; "
            "one of your own is written module:Class."
        )
    if len(found) > 1:
        raise ValueError(
            f"{len(found)} installed packages announce the {what} {name!r}: "
            f"{', '.join(point.value for point in found)}. Choose one by writing module:Class."
        )
    return _import_class(f"{found[0].module}:{found[0].attr}", what)


def names(known: Mapping[str, str], group: str) -> list[str]:
    """List the names that need no module: built-in ones first, then those of installed packages."""
    announced = {point.name for point in entry_points(group=group)}
    return [*known, *sorted(announced - known.keys())]


def check_name(name: str, known: Mapping[str, str], group: str, what: str) -> None:
    """Check that a name is known or of the form ``module:Class``, without importing anything.

    Raises:
        ValueError: it is neither; the message suggests the nearest name.
    """
    if name in known:
        return
    module, colon, path = name.partition(":")
    if colon and all(part.isidentifier() for part in f"{module}.{path}".split(".")):
        return
    listed = names(known, group)
    if name not in listed:
        raise ValueError(
            f"unknown {what} {name!r}{nearest(name, listed)} There are {', '.join(listed)}; "
            "one of your own is written module:Class."
        )


def import_typed(name: str, what: str) -> None:
    """Import a ``module:Class`` typed on the command line.

    The module may be a file in the current folder, which is searched first, and only during this
    import. Later lookups of the same name find the imported module.

    Raises:
        ValueError: as for :func:`resolve`.
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
            f"{nearest(path, vars(module))} It was read from {getattr(module, '__file__', None)}."
        ) from error
    if not isinstance(found, type):
        raise ValueError(
            f"{what} {place!r} is {found!r}, not a class; name the class, without options."
        )
    return found


def _next_step(module_name: str, error: Exception) -> str:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None or not f"{module_name}.".startswith(f"{missing}."):
        return f"Correct it; `python -c 'import {module_name}'` shows the error in full."
    return (
        "Installed packages and PYTHONPATH were searched; the current folder is searched only for "
        "names typed on the command line. Install the module, or run in its folder with "
        "PYTHONPATH=."
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """``": did you mean 'x'?"``, or ``"."`` where nothing is near."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f": did you mean {close[0]!r}?" if close else "."
