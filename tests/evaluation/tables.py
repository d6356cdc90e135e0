"""An exam, rows as files, and tables as text."""

import json

from rich.console import Console

from crosstok.evaluation import render_table

EXAM = [{"good": "The dog does not mind.", "bad": "The dog do not mind."}] * 3


def lines(path, rows) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def table_text(result) -> str:
    console = Console(width=160, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render_table(result))
    return console.export_text(styles=True)
