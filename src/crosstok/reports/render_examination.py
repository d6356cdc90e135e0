"""The examination of a teacher and a student, for the terminal. Computes nothing."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.markup import escape

from crosstok.reports.examination_tables import advice_command, examination_figures
from crosstok.reports.render import rich_table

_LEVELS = {"error": "bold red", "warning": "yellow", "note": "dim"}


def print_examination(console: Console, numbers: Mapping[str, Any]) -> None:
    """Print the tables, the advice and the flags of ``Examination.as_json``."""
    for figures in examination_figures(numbers):
        console.print(rich_table(figures))
    _print_advice(console, numbers["advice"])
    for flag in numbers["flags"]:
        line = f"[{_LEVELS[flag['level']]}]{flag['level']}:[/] {escape(flag['message'])}"
        console.print(line, highlight=False, soft_wrap=True)


def _print_advice(console: Console, advice: Mapping[str, Any]) -> None:
    shown = f"[bold green]recommended:[/] {escape(advice_command(advice))}"
    console.print(shown, highlight=False, soft_wrap=True)
    console.print(f"  because {escape(advice['reason'])}", highlight=False, soft_wrap=True)
    for hint in advice["hints"]:
        console.print(f"[dim]hint:[/] {escape(hint)}", highlight=False, soft_wrap=True)
