"""Figures and pictures in the pages are those that scripts of the repository wrote."""

import re
from pathlib import Path

import pytest

from tests.docs.pages import IMAGE, PAGES, ROOT, each_page

RESULTS = list((ROOT / "benchmarks").glob("*.md"))
PICTURES = ROOT / "docs" / "images" / "README.md"
_FIGURE = re.compile(r"[-+−]?[\d,]*\.\d+(?: ± [\d.]+)?(?: ?[%×x])?")
_SCRIPT = re.compile(r"(?:benchmarks|recipes|examples)/[\w/]+\.py")


def rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")]


def results_of_the_readme() -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = re.search(r"^## Results\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None
    return section[1]


@pytest.fixture(scope="module")
def written() -> set[str]:
    """Every row of a table that a script wrote."""
    return {row for file in RESULTS for row in rows(file.read_text(encoding="utf-8"))}


@each_page
def test_rows_with_a_spread_are_those_of_the_results_files(page, written):
    shown = [row for row in rows(page.read_text(encoding="utf-8")) if "±" in row]
    assert [row for row in shown if row not in written] == []


@pytest.mark.parametrize("page", ["README.md", "docs/results.md"])
def test_rows_with_figures_are_those_of_the_results_files(page, written):
    """Word for word. Tables of sentences are not meant: they quote the papers, too."""
    text = results_of_the_readme() if page == "README.md" else (ROOT / page).read_text("utf-8")
    shown = [row for row in rows(text) if any(map(_FIGURE.fullmatch, cells(row)))]
    assert len(shown) > 4
    assert [row for row in shown if row not in written] == []


def cells(row: str) -> list[str]:
    return [cell.strip(" *") for cell in row.strip("|").split("|")]


def test_pages_show_figures_and_pictures():
    texts = [page.read_text(encoding="utf-8") for page in PAGES]
    assert sum("±" in text for text in texts) > 2
    assert sum(len(IMAGE.findall(text)) for text in texts) > 1


@each_page
def test_pictures_are_there_and_made_by_a_named_script(page):
    """The script is named on the page and names the picture, or stands beside it in a table."""
    text = page.read_text(encoding="utf-8")
    for match in IMAGE.findall(text):
        picture = page.parent / next(filter(None, match))
        assert picture.is_file(), picture
        scripts = [script for script in _SCRIPT.findall(text) if names(script, picture)]
        for row in rows(PICTURES.read_text(encoding="utf-8")):
            if f"`{picture.name}`" in row:
                scripts += _SCRIPT.findall(row)
        assert any((ROOT / script).is_file() for script in scripts), picture.name


def names(script: str, picture: Path) -> bool:
    """Whether a script writes of a picture, with or without its suffix."""
    file = ROOT / script
    return file.is_file() and f"images/{picture.stem}" in file.read_text(encoding="utf-8")
