"""Import paths of the first development versions still find what has moved."""

import importlib
import subprocess
import sys

import pytest

import crosstok
from crosstok import chats, former_paths
from crosstok.byteview import ByteModel


@pytest.fixture(autouse=True)
def front_door():
    """What an import of a former path leaves at the front door is taken away."""
    yield
    for path in former_paths._MODULES:
        vars(crosstok).pop(path.partition(".")[2], None)
        sys.modules.pop(path, None)


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "always", "-c", code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize(
    "path",
    [
        f"{former}.{name}"
        for table in (former_paths._NAMES, former_paths._MODULES)
        for former, homes in table.items()
        for names in homes.values()
        for name in names.split()
    ],
)
def test_every_former_path_is_found_and_names_the_new_one(path: str):
    module, _, name = path.rpartition(".")
    with pytest.warns(DeprecationWarning, match=f"{path} is now crosstok"):
        value = find(module, name)
    assert value is not None


def find(module: str, name: str) -> object:
    vars(importlib.import_module(module)).pop(name, None)
    sys.modules.pop(f"{module}.{name}", None)
    namespace: dict[str, object] = {}
    exec(f"from {module} import {name} as value", namespace)
    return namespace["value"]


def test_a_moved_name_is_the_same_object():
    with pytest.warns(DeprecationWarning, match="is now"):
        assert find("crosstok.tokenizers", "ExampleEncoder") is chats.ExampleEncoder
    with pytest.warns(DeprecationWarning, match="is now"):
        assert find("crosstok.inference", "ByteModel") is ByteModel


def test_the_job_of_a_former_module_can_still_be_called():
    done = run(
        "import crosstok\n"
        "from crosstok.transfer import transplant_only\n"
        "from crosstok.transplant import plan_rows\n"
        "assert transplant_only is not None and plan_rows is not None\n"
        "for job in (crosstok.transfer, crosstok.transplant):\n"
        "    try: job(model='nowhere/no')\n"
        "    except ValueError as error: print(error)\n"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("missing: ") == 2
    assert "crosstok.transfer.transplant_only is now crosstok.jobs.transplant" in done.stderr


def test_what_never_existed_is_not_found():
    with pytest.raises(ImportError):
        from crosstok.tokenizers import NoSuchName  # noqa: F401
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("crosstok.no_such_module")
    with pytest.raises(ImportError):
        find("crosstok.transfer", "no_such_name")


def test_the_front_door_is_the_same_after_a_former_import():
    assert callable(crosstok.transfer)
