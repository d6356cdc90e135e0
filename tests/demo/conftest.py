"""The demo's text, read once."""

from __future__ import annotations

import pytest

from crosstok.demo.corpus import SplitDocuments, load_domain


@pytest.fixture(scope="session")
def domains() -> dict[str, SplitDocuments]:
    """Both domains of the running Python's standard library."""
    return {"code": load_domain("code"), "prose": load_domain("prose")}
