"""Classes by the names that people type: our own, those of installed packages, a user's own.

Nothing is imported before a class is asked for. A name is one of

* a known one, from a table ``name -> "module:Class"``;
* one that an installed package declares as an entry point, in a group such as
  ``crosstok.transplants``;
* ``package.module:Class``, of any module that Python can import. The working folder is searched
  last, so that a file there can be named and hides nothing that is installed.
"""

import difflib
import importlib
import inspect
import sys
from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path


def names(known: Mapping[str, str], group: str) -> list[str]:
    """The names that need no colon: known ones in their order, then those of installed packages.

    Args:
        known: name -> ``"module:Class"``.
        group: of the entry points.
    """
    return list(dict.fromkeys([*known, *sorted(entry_points(group=group).names)]))


def check_name(name: str, known: Mapping[str, str], group: str, what: str) -> None:
    """Check that a name can be one, without importing anything that it names.

    Args:
        name: as typed.
        known: name -> ``"module:Class"``.
        group: of the entry points.
        what: what the class is, for the message: ``transplant method``.

    Raises:
        ValueError: the name is neither known nor of the form ``package.module:Class``.
    """
    module, colon, qualname = name.partition(":")
    is_path = bool(colon) and all(part.isidentifier() for part in f"{module}.{qualname}".split("."))
    if not is_path and name not in known and name not in names(known, group):
        every = names(known, group)
        raise ValueError(
            f"unknown {what} {name!r}{_nearest(name, every)} Known are {', '.join(every)}; "
            "a class of your own is named package.module:Class."
        )


def resolve(name: str, known: Mapping[str, str], group: str, what: str) -> type:
    """The class that a name stands for; a known name comes before one of an installed package.

    Args:
        name: as typed.
        known: name -> ``"module:Class"``.
        group: of the entry points.
        what: what the class is, for the messages: ``transplant method``.

    Raises:
        ValueError: the name is unknown (the nearest is suggested), two packages declare it, its
            module cannot be imported, or there is no such class in it.
    """
    check_name(name, known, group, what)
    spec = known.get(name) or (name if ":" in name else _entry_point(name, group, what).value)
    module_name, _, qualname = spec.partition(":")
    asked = f"{what} {name!r}"
    found: object = _import_module(module_name, asked)
    for part in qualname.split("."):
        if not hasattr(found, part):
            classes = [n for n, value in vars(found).items() if inspect.isclass(value)]
            raise ValueError(
                f"{asked}: {module_name} holds no {qualname}{_nearest(qualname, classes)} "
                "Name a class that it defines."
            )
        found = getattr(found, part)
    if not isinstance(found, type):
        raise ValueError(
            f"{asked} is an object of {type(found).__name__}; it must be a class. "
            "Name its class, or pass the object from Python."
        )
    return found


def _entry_point(name: str, group: str, what: str) -> EntryPoint:
    found = list(entry_points(group=group, name=name))
    if len({point.value for point in found}) > 1:
        raise ValueError(
            f"{what} {name!r} is declared by several installed packages; "
            f"choose one of {', '.join(sorted(point.value for point in found))}."
        )
    return found[0]


def _import_module(name: str, asked: str) -> object:
    """A module; of the working folder if it is nowhere else."""
    folder = str(Path.cwd())
    top = name.partition(".")[0]
    if folder not in sys.path and (
        Path(folder, top).is_dir() or Path(folder, f"{top}.py").exists()
    ):
        sys.path.append(folder)  # for good: the module may import its neighbours later
        importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(
            f"{asked}: module {name} cannot be imported ({error}). Install what it belongs to, "
            "or start in the folder that holds it."
        ) from error


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {close[0]!r}?" if close else "."
