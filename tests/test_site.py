"""The site of docs/: a strict build passes, loads nothing from the network, leaves nothing out."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.public_names import PUBLIC

ROOT = Path(__file__).parents[1]
_LOADED = re.compile(r"<(?:script|img|iframe|source|link|object)\b[^>]*>")
_ADDRESS = re.compile(r"\b(?:src|srcset|href|data)=\"?((?:https?:)?//[^\"\s>]+)")
_IN_STYLES = re.compile(r"@import|url\(\s*[\"']?(?:https?:)?//")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_no_page_loads_anything_from_the_network(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 60
    for page in pages:
        loaded = "".join(_LOADED.findall(page.read_text(encoding="utf-8")))
        assert _ADDRESS.findall(loaded) == [], page.relative_to(site)
    for style in site.rglob("*.css"):
        assert not _IN_STYLES.search(style.read_text(encoding="utf-8")), style.relative_to(site)


def test_every_public_name_has_an_entry_in_the_api(site):
    for package, names in PUBLIC.items():
        page = (site / "api" / package / "index.html").read_text(encoding="utf-8")
        named = re.findall(r'<h2 id="crosstok\.[\w.]*\.(\w+)"', page)
        named += re.findall(r"<code>(\w+)</code> is that of", page)
        assert set(names.split()) <= set(named), package


def test_results_files_and_linked_sources_are_pages(site):
    for file in (ROOT / "benchmarks").glob("*.md"):
        assert (site / "files" / "benchmarks" / file.stem / "index.html").is_file(), file.name
    alm = (site / "methods" / "alm" / "index.html").read_text(encoding="utf-8")
    assert '"../../files/src/crosstok/objectives/alm.py/"' in alm
    assert (site / "files" / "src" / "crosstok" / "objectives" / "alm.py" / "index.html").is_file()


def test_search_finds_pages_without_a_server_elsewhere(site):
    index = (site / "search" / "search_index.json").read_text(encoding="utf-8")
    assert "tokenization-bias" in index


def test_the_page_of_results_links_every_results_file():
    text = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    for file in (ROOT / "benchmarks").glob("*.md"):
        assert f"(../benchmarks/{file.name}" in text, f"docs/results.md has no link to {file.name}"
