"""Classes by name: our own, those of installed packages, and `module:Class`."""

import sys
from importlib.metadata import EntryPoint

import pytest

from crosstok import plugins

KNOWN = {"odict": "collections:OrderedDict", "counter": "collections:Counter"}


@pytest.fixture
def announced(monkeypatch):
    """Let installed packages announce these: name -> module:attribute."""

    def announce(*points: tuple[str, str]) -> None:
        found = [EntryPoint(name, value, "things") for name, value in points]
        monkeypatch.setattr(
            plugins, "entry_points", lambda group: found if group == "things" else []
        )

    return announce


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current folder; modules that are imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name, module in list(sys.modules.items()):
        if str(getattr(module, "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]


def resolve(name: str) -> type:
    return plugins.resolve(name, KNOWN, "things", "thing")


def test_a_name_of_the_table_and_a_module_with_its_class_lead_to_classes(announced):
    announced(("odd", "fractions:Fraction"))
    assert resolve("counter").__name__ == "Counter"
    assert resolve("odd").__name__ == "Fraction"
    assert resolve("decimal:Decimal").__name__ == "Decimal"
    assert plugins.names(KNOWN, "things") == ["odict", "counter", "odd"]


def test_our_own_win_over_an_entry_point_of_the_same_name(announced):
    announced(("counter", "fractions:Fraction"))
    assert resolve("counter").__name__ == "Counter"
    assert plugins.names(KNOWN, "things") == ["odict", "counter"]


def test_two_packages_of_one_name_are_an_error(announced):
    announced(("odd", "fractions:Fraction"), ("odd", "decimal:Decimal"))
    with pytest.raises(ValueError, match=r"2 installed packages announce the thing 'odd': frac"):
        resolve("odd")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("conter", r"unknown thing 'conter': did you mean 'counter'\? There are odict, counter;"),
        ("xyz", r"unknown thing 'xyz'\. There are .* one of your own is written module:Class"),
        (":X", "not of the form module:Class"),
        ("collections:", "not of the form module:Class"),
        ("no_such:X", r"importing 'no_such' failed with ModuleNotFoundError: .*PYTHONPATH=\."),
        ("collections:Countr", "module 'collections' has no 'Countr': did you mean 'Counter'"),
        ("collections:abc", "not a class; name the class"),
    ],
)
def test_a_name_that_leads_to_no_class_says_why_and_what_to_do(announced, name, message):
    announced()
    with pytest.raises(ValueError, match=message):
        resolve(name)


def test_a_module_that_fails_says_how_in_one_line(folder, monkeypatch):
    (folder / "broken_module.py").write_text("1 / 0\n")
    (folder / "needs_more.py").write_text("import not_there_at_all\n")
    monkeypatch.syspath_prepend(folder)
    with pytest.raises(ValueError, match=r"ZeroDivisionError: division by zero\. Correct it"):
        resolve("broken_module:X")
    with pytest.raises(ValueError, match=r"No module named 'not_there_at_all'\. Correct it"):
        resolve("needs_more:X")


def test_only_a_typed_name_is_looked_for_in_the_current_folder(folder):
    (folder / "lies_here.py").write_text("class Thing: pass\n")
    before = list(sys.path)
    with pytest.raises(ValueError, match="No module named 'lies_here'"):
        resolve("lies_here:Thing")
    plugins.import_typed("lies_here:Thing", "thing")
    assert sys.path == before
    assert resolve("lies_here:Thing").__name__ == "Thing"


def test_a_name_is_checked_without_importing_what_it_names():
    known = {"half": "no_such_module:Half"}
    plugins.check_name("half", known, "crosstok.of_this_test", "number")
    plugins.check_name("no_such_module:X", known, "crosstok.of_this_test", "number")
    for name in ("hlf", "a b:C", "fractions:"):
        with pytest.raises(ValueError, match=r"unknown number .* There are half; one of your own"):
            plugins.check_name(name, known, "crosstok.of_this_test", "number")
