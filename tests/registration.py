"""Where an objective, or a way to combine them, must be named beside its own file."""

import re
from pathlib import Path

from crosstok import objectives
from tests.laws.objectives import OBJECTIVES as UNDER_LAWS

ROOT = Path(__file__).parents[1]


def missing_of_objective(name: str, place: str) -> list[str]:
    """What is missing of an objective, by its name and ``module:Class``."""
    module, _, cls = place.partition(":")
    file = f"src/{module.replace('.', '/')}.py"
    under_laws = {type(objective).__name__ for objective in UNDER_LAWS}
    row = rf"^\|.*\]\({re.escape(file)}\).*`--objective (?:\w+\+)?{name}`.*\|$"
    there = {
        f"its file, {file}": (ROOT / file).is_file(),
        "its export in src/crosstok/objectives/__init__.py": cls in objectives.__all__,
        f"its page, docs/methods/{name}.md": (ROOT / "docs" / "methods" / f"{name}.md").is_file(),
        "its page in the nav of mkdocs.yml": f"methods/{name}.md" in read("mkdocs.yml"),
        "its row in the README's table of methods, with file and flag": _has(row, "README.md"),
        "its class in docs/reference.md, crosstok.objectives": _has(
            rf"^\|.*`{cls}`.*\| objectives \|$", "docs/reference.md"
        ),
        "an instance in tests/laws/objectives.py": cls in under_laws,
    }
    return [what for what, is_there in there.items() if not is_there]


def missing_of_combining_rule(name: str, cls: str) -> list[str]:
    """What is missing of a value of ``weighting``, by its name and class."""
    there = {
        "its class among the objectives' exports": cls in objectives.__all__,
        "its section in docs/methods/combining.md": _has(
            rf"`--weighting {name}`", "docs/methods/combining.md"
        ),
        "its class in docs/reference.md": _has(rf"^\|.*`{cls}`", "docs/reference.md"),
        "a row of its file in the README's table of methods": _has(
            r"^\|.*\(src/crosstok/objectives/weighting\.py\)", "README.md"
        ),
    }
    return [what for what, is_there in there.items() if not is_there]


def read(page: str) -> str:
    """A file of the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def _has(pattern: str, page: str) -> bool:
    return re.search(pattern, read(page), re.MULTILINE) is not None
