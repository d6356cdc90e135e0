"""Names of classes: known ones, those of installed packages, a user's own."""

import subprocess
import sys
from fractions import Fraction

import pytest

from crosstok.plugins import check_name, names, resolve

KNOWN = {"half": "fractions:Fraction", "broken": "fractions:Nothing"}
GROUP = "crosstok.of_this_test"


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that declares the class `Third` as `third`."""
    info = tmp_path / "thirds-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: thirds\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        f"[{GROUP}]\nthird = thirds_of_this_test.inner:Third\nhalf = thirds_of_this_test:Never\n"
    )
    (tmp_path / "thirds_of_this_test").mkdir()
    (tmp_path / "thirds_of_this_test" / "__init__.py").write_text("")
    (tmp_path / "thirds_of_this_test" / "inner.py").write_text("class Third: ...\nTHIRD = 3\n")
    monkeypatch.syspath_prepend(tmp_path)


def test_a_known_name_gives_its_class():
    assert resolve("half", KNOWN, GROUP, "number") is Fraction


def test_an_installed_package_brings_names_but_takes_none_away(installed):
    assert names(KNOWN, GROUP) == ["half", "broken", "third"]
    assert resolve("third", KNOWN, GROUP, "number").__name__ == "Third"
    assert resolve("half", KNOWN, GROUP, "number") is Fraction


def test_a_class_is_named_by_module_and_name(installed):
    assert resolve("fractions:Fraction", {}, GROUP, "number") is Fraction
    assert resolve("thirds_of_this_test.inner:Third", {}, GROUP, "number").__name__ == "Third"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hlf", r"unknown number 'hlf': did you mean 'half'\? Known are half, broken, third; "),
        ("thirt", "did you mean 'third'"),
        ("zzz", r"unknown number 'zzz'\. Known are"),
        ("a b:C", "named package.module:Class"),
        ("fractions:", "named package.module:Class"),
        ("fractions:Fractions", "holds no Fractions: did you mean 'Fraction'"),
        ("broken", "holds no Nothing"),
        ("no_such_module:X", r"module no_such_module cannot be imported \(No module named"),
        ("thirds_of_this_test.inner:THIRD", "is an object of int; it must be a class"),
    ],
)
def test_a_wrong_name_is_answered_with_what_would_be_right(installed, name, message):
    with pytest.raises(ValueError, match=message):
        resolve(name, KNOWN, GROUP, "number")


def test_a_name_that_two_packages_declare_is_refused(installed, tmp_path):
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{GROUP}]\nthird = fractions:Fraction\n")
    with pytest.raises(ValueError, match="choose one of fractions:Fraction, thirds_of_this_test"):
        resolve("third", {}, GROUP, "number")


def test_a_name_is_checked_without_importing_what_it_names():
    check_name("broken", KNOWN, GROUP, "number")
    check_name("no_such_module:X", KNOWN, GROUP, "number")
    with pytest.raises(ValueError, match="unknown number"):
        check_name("hlf", KNOWN, GROUP, "number")


def test_a_module_of_the_working_folder_is_found_and_hides_nothing(tmp_path):
    (tmp_path / "mine.py").write_text("import neighbour\nclass Mine: ...\n")
    (tmp_path / "neighbour.py").write_text("")
    (tmp_path / "fractions.py").write_text("class Fraction: fake = True\n")
    code = (
        "import sys; sys.path = [p for p in sys.path if p]\n"
        "from crosstok.plugins import resolve\n"
        "assert resolve('mine:Mine', {}, 'g', 'number').__name__ == 'Mine'\n"
        "assert not hasattr(resolve('fractions:Fraction', {}, 'g', 'number'), 'fake')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)
