"""Packages whose public names are imported when they are first used (PEP 562)."""

from collections.abc import Callable, Mapping, MutableMapping
from importlib import import_module
from typing import Any


def import_on_demand(
    namespace: MutableMapping[str, Any], homes: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """The ``__getattr__`` and ``__dir__`` of such a package.

    Args:
        namespace: the package's ``globals()``; names are kept there once they are imported.
        homes: public name -> module below the package that defines it, or ``module:name`` where it
            is defined by another name, or ``module:`` for the module itself.
    """
    package = namespace["__name__"]

    def get(name: str) -> Any:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        place, colon, renamed = homes[name].partition(":")
        module = import_module(f"{package}.{place}")
        value = module if colon and not renamed else getattr(module, renamed or name)
        namespace[name] = value
        return value

    def names() -> list[str]:
        return sorted({*namespace, *homes})

    return get, names
