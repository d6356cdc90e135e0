"""The house's own rules, read from the source: floors, sizes, public names, what is never said."""

import ast
import importlib
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
import yaml

from crosstok import recipes
from tests.public_names import PUBLIC

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "src" / "crosstok"

# Imports point strictly down; those of one floor do not know each other.
FLOORS = (
    {"choices", "plugins", "lazy", "local_files", "loaded", "former_paths"},
    {"tokenizers", "ops"},
    {"chats"},
    {"models", "alignment", "corpora"},
    {"byteview"},
    {"objectives", "transplants", "reports"},
    {"teachers", "inference"},
    {"training", "evaluation"},
    {"recipes"},
    {"jobs"},
    {"demo"},
    {"cli"},
)

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60


@cache
def tracked(*suffixes: str) -> tuple[Path, ...]:
    """Files of the repository (those of the working tree where it is no git checkout)."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    names = listed.stdout.splitlines()
    if listed.returncode:
        names = [
            str(path.relative_to(ROOT))
            for folder in ("src", "tests", "benchmarks", "recipes", "examples", "docs")
            for path in (ROOT / folder).rglob("*")
        ]
    files = [ROOT / name for name in names if Path(name).suffix in suffixes]
    return tuple(path for path in files if path.is_file() and not path.is_symlink())


def unit_of(module: str) -> str | None:
    """`tokenizers` of `crosstok.tokenizers.spans`."""
    parts = module.split(".")
    return parts[1] if parts[0] == "crosstok" and len(parts) > 1 else None


def imports_of(file: Path) -> list[str]:
    """Modules that a file imports, wherever in the file it does."""
    found: list[str] = []
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: imports are absolute"
            module = node.module or ""
            found += (
                [f"{module}.{alias.name}" for alias in node.names] if module == "crosstok" else []
            )
            found += [module]
    return found


def floor_of(unit: str) -> int:
    return next(i for i, units in enumerate(FLOORS) if unit in units)


def test_every_unit_has_a_floor():
    units = {path.stem for path in PACKAGE.iterdir() if path.suffix in ("", ".py")}
    units = {unit for unit in units if not unit.startswith(("__", "py"))}
    assert units == set().union(*FLOORS)


def test_imports_point_strictly_down():
    wrong = []
    for file in PACKAGE.rglob("*.py"):
        ours = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if ours in ("__init__", "__main__"):  # above all floors
            continue
        for unit in filter(None, map(unit_of, imports_of(file))):
            if unit in ("__version__", ours):
                continue
            if floor_of(unit) >= floor_of(ours):
                wrong.append(f"{file.relative_to(ROOT)} imports {unit}")
    assert not wrong


def test_the_table_of_floors_is_the_tested_one():
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]*) \|", page, re.MULTILINE)
    shown = {int(floor): set(re.findall(r"`(\w+)`", units)) for floor, units in rows}
    assert shown == dict(enumerate(FLOORS))


@pytest.mark.parametrize("unit", ["tokenizers", "chats", "alignment", "corpora"])
def test_bytes_and_chunks_need_no_torch(unit):
    for file in (PACKAGE / unit).rglob("*.py"):
        assert "torch" not in {module.split(".")[0] for module in imports_of(file)}, file


def test_files_have_at_most_400_lines_and_functions_60():
    too_long = []
    for file in tracked(".py"):
        source = file.read_text()
        if source.count("\n") > MAX_FILE_LINES:
            too_long.append(f"{file.relative_to(ROOT)}: {source.count(chr(10))} lines")
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > MAX_FUNCTION_LINES:
                    too_long.append(f"{file.relative_to(ROOT)}: {node.name} has {lines} lines")
    assert not too_long


@pytest.mark.parametrize("unit", sorted(PUBLIC))
def test_public_names_change_only_on_purpose(unit):
    module = importlib.import_module(f"crosstok.{unit}")
    assert sorted(module.__all__) == sorted(PUBLIC[unit].split())
    assert all(hasattr(module, name) for name in module.__all__)


def test_no_path_of_a_machine_and_no_word_on_how_it_is_made():
    # Spelled in parts, so that this file does not hold what it looks for.
    said = re.compile(
        "|".join(["/wo" + "rk/", "/ho" + r"me/\w", "/Us" + r"ers/\w", "/tm" + r"p/\w",
                  "/ro" + "ot/", "cla" + "ude", "anth" + "ropic", "chat" + "gpt",
                  "co-authored" + "-by"]),
        re.IGNORECASE,
    )  # fmt: skip
    found = [
        f"{file.relative_to(ROOT)}: {match.group()}"
        for file in tracked(".py", ".md", ".toml", ".yaml", ".yml", ".txt", ".cfg", ".cff", "")
        if (match := said.search(file.read_text(encoding="utf-8", errors="ignore")))
    ]
    assert not found


def recipe_type(job: str) -> type:
    return getattr(recipes, f"{job.capitalize()}Recipe")


RECIPES = [file for file in tracked(".yaml") if file.is_relative_to(ROOT / "recipes")]


@pytest.mark.parametrize("file", RECIPES, ids=lambda file: file.name)
def test_every_recipe_loads_as_the_recipe_of_its_folder(file):
    kind = recipe_type(file.parent.name)
    given = yaml.safe_load(file.read_text())
    places = ("model", "tokenizer", "teacher", "student", "data", "output")
    named = {field: given.get(field, "given") for field in places}
    known = kind.__dataclass_fields__
    loaded = recipes.load_recipe(kind, file, {k: v for k, v in named.items() if k in known})
    if isinstance(loaded, recipes.TrainingRecipe):
        assert loaded.objectives()
        assert loaded.combination()


def test_every_recipe_says_what_it_is_for():
    for file in RECIPES:
        assert file.read_text().startswith("#"), f"{file.name} begins with no comment"


def test_the_command_line_module_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "-m", "crosstok.cli", "--version"], capture_output=True, check=False
    )
    assert done.returncode == 0


def test_no_test_module_imports_another():
    found = [
        f"{file.relative_to(ROOT)} imports {module}"
        for file in tracked(".py")
        if file.is_relative_to(ROOT / "tests")
        for module in imports_of(file)
        if module.startswith("tests.") and re.search(r"\.(test_\w+|conftest)$", module)
    ]
    assert not found
