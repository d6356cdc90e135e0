"""Numbers as a file: what ``--json`` names."""

import json
from pathlib import Path
from typing import Any


def write_json(file: str | Path, values: Any) -> None:
    """Write plain values as indented JSON, and make the folder that the file stands in."""
    path = Path(file).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
