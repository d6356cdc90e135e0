"""Fixtures for every test."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

import datasets
import pytest
from hypothesis import settings

from crosstok import cli

# The gate draws the same examples every time; `make search` draws new ones.
settings.register_profile("same", derandomize=True)
settings.register_profile("search", print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real tokenizers and corpora beside the checkout; skips where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not folder.is_dir():
        pytest.skip("needs the folder ../shared")
    return folder


@pytest.fixture
def crosstok(monkeypatch, capsys, tmp_path):
    """Run a command in this process; its exit status, standard output and standard error."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(logging.getLogger(), "handlers", [])

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["crosstok", *map(str, arguments)])
        logging.getLogger().handlers.clear()
        with pytest.raises(SystemExit) as exit_status:
            cli.main()
        out, err = capsys.readouterr()
        return int(exit_status.value.code or 0), out, err

    return run
