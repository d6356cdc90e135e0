"""The pages in headless Chromium, by axe; skipped where there is no browser or no axe-core.

``make report-check`` installs axe-core and looks at more: see ``benchmarks/report_check.py``.
"""

from pathlib import Path

import pytest

from tests.reports.pages import pages

ROOT = Path(__file__).parents[2]
INSTALLED = ROOT / "out" / "report-check"


@pytest.mark.slow
def test_axe_finds_nothing_wrong_with_the_pages(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import report_check

    chromium = report_check.find_chromium()
    if chromium is None or not (INSTALLED / "node_modules" / "axe-core").is_dir():
        pytest.skip("needs Chromium and axe-core: run `make report-check` once")
    files = []
    for name, text in pages().items():
        files.append(tmp_path / f"{name.replace(' ', '_')}.html")
        files[-1].write_text(text, encoding="utf-8")
    (tmp_path / "node_modules").symlink_to(INSTALLED / "node_modules")
    checked = report_check.check(files, tmp_path, chromium)
    assert len(checked["found"]) == 4 * len(files)
    assert report_check.tell(checked, files) == 0, capsys.readouterr().out
