"""Numbers as a file: what ``--json`` names."""

import json
from pathlib import Path
from typing import Any


def write_json(file: str | None, values: Any) -> None:
    """Write plain values as indented JSON, if a file was asked for; makes its folder."""
    if file is None:
        return
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
