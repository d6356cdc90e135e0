"""Import paths of 0.1's first development versions: they still work and warn with the new one.

A path is looked up here only after Python did not find it as a module, so that nothing in the
packages themselves knows of it.
"""

import sys
import warnings
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_NAMES = {
    "crosstok.inference": {
        "crosstok.byteview": "ByteModel ByteScore ByteStream EXACT Pruning STOP",
        "crosstok.choices": "Target",
    },
    "crosstok.tokenizers": {
        "crosstok.chats": "ChatDescription Conversation Example ExampleEncoder PieceMatch "
        "PromptCompletion compare_templates describe_template parse_example "
        "resolve_chat_template shared_examples",
        "crosstok.choices": "LossOn",
    },
    "crosstok.teachers": {"crosstok.models": "vocabulary_masks"},
}
"""Package -> where some of its names have moved. The package itself still exists."""

_MODULES = {
    "crosstok.distil": {"crosstok.jobs.distil": "distil DistilResult"},
    "crosstok.transfer": {
        "crosstok.jobs.transfer": "transfer TransferResult",
        "crosstok.jobs.transplant": "transplant_only",
    },
    "crosstok.transplant": {
        "crosstok.transplants": "RowSource TransplantPlan TransplantReport plan_rows transplant "
        "untie_embeddings"
    },
}
"""Module that does not exist any more -> where its names have moved."""

_RENAMED = {"transplant_only": "transplant"}


class _FormerModule(ModuleType):
    """A module of former names. It can be called, as the job of the same name at the front door."""

    def __getattr__(self, name: str) -> Any:
        homes = _MODULES[self.__name__]
        home = next((home for home, names in homes.items() if name in names.split()), None)
        if home is None:
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        return _find(f"{self.__name__}.{name}", home, name)

    def __call__(self, *args: Any, **options: Any) -> Any:
        job = self.__name__.rpartition(".")[2]
        return getattr(import_module(f"crosstok.jobs.{job}"), job)(*args, **options)


class _FormerPaths(MetaPathFinder, Loader):
    def find_spec(self, path: str, *where: Any) -> ModuleSpec | None:
        package, _, name = path.rpartition(".")
        is_known = path in _MODULES or _home(package, name) is not None
        return ModuleSpec(path, self) if is_known else None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return _FormerModule(spec.name) if spec.name in _MODULES else None

    def exec_module(self, module: ModuleType) -> None:
        # ``from package import Name`` asks for a module ``package.Name`` where the package has no
        # such name: what stands in `sys.modules` afterwards is what the caller gets.
        package, _, name = module.__name__.rpartition(".")
        home = _home(package, name)
        if home is not None:
            sys.modules[module.__name__] = _find(module.__name__, home, name)


def _home(package: str, name: str) -> str | None:
    homes = _NAMES.get(package, {})
    return next((home for home, names in homes.items() if name in names.split()), None)


def _find(path: str, home: str, name: str) -> Any:
    name = _RENAMED.get(name, name)
    warnings.warn(
        f"{path} is now {home}.{name}; the old path will be removed in version 1.0",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(import_module(home), name)


def keep_former_paths() -> None:
    """Let old import paths find what has moved. Doing it twice changes nothing."""
    if not any(isinstance(finder, _FormerPaths) for finder in sys.meta_path):
        sys.meta_path.append(_FormerPaths())
