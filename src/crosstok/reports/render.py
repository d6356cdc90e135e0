"""The chunks of a text and tables, for the terminal. Computes nothing."""

from collections.abc import Mapping
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from crosstok.alignment import Alignment
from crosstok.reports.cells import cells, spell_tokens
from crosstok.reports.tables import NO_LABELS, Figures, Labels, outcome_figures, pair_figures
from crosstok.tokenizers import ByteVocab, Spans

_COLOURS = ("cyan", "yellow", "green", "magenta")
_SEPARATOR = "·"
_MARGIN = 8  # columns of "source  "


def print_chunks(
    console: Console,
    source: Spans,
    target: Spans,
    alignment: Alignment,
    source_vocab: ByteVocab,
    target_vocab: ByteVocab,
) -> None:
    """Print a text under both tokenizers: source above target, a column for each chunk.

    Tokens are separated by a middle dot, chunks by a bar. Tokens in no chunk are red, and marked by
    ``~`` for readers without colours. A chunk wider than the console ends in ``…``.
    """
    console.print("Chunks of the text: source above target.", style="dim", highlight=False)
    top, bottom = Text("source".ljust(_MARGIN)), Text("target".ljust(_MARGIN))
    room = max(24, console.width) - _MARGIN
    used = 0
    for number, cell in enumerate(cells(source, target, alignment)):
        upper = _spell(source, cell.source, source_vocab, cell.is_chunk)
        lower = _spell(target, cell.target, target_vocab, cell.is_chunk)
        columns = min(room - 1, max(cell_len(upper), cell_len(lower)))
        if used + columns + 1 > room and used:
            _print_rows(console, top, bottom)
            top, bottom = Text(" " * _MARGIN), Text(" " * _MARGIN)
            used = 0
        style = _COLOURS[number % len(_COLOURS)] if cell.is_chunk else "red"
        top.append(_fit(upper, columns), style).append("|", "dim")
        bottom.append(_fit(lower, columns), style).append("|", "dim")
        used += columns + 1
    _print_rows(console, top, bottom)


def pair_table(numbers: Mapping[str, Any], source: str, target: str) -> Table:
    """Make the table of a pair from ``PairReport.as_json``."""
    return rich_table(pair_figures(numbers, source, target))


def outcome_table(
    counts: Mapping[str, Any], metrics: Mapping[str, float], labels: Labels = NO_LABELS
) -> Table:
    """Make the table of a run: where the embedding rows came from, if any, and final metrics.

    Args:
        counts: counts of embedding rows.
        metrics: values by the names under which they are logged.
        labels: labels and format strings of the objectives' metrics.
    """
    table = Table(show_header=False)
    for part in outcome_figures(counts, metrics, labels):
        table.add_section()
        table.add_row(escape(part.title), "", style="bold")
        for row in part.rows:
            table.add_row(*map(escape, row))
    return table


def rich_table(figures: Figures) -> Table:
    """Make a table for the terminal; with a header, numbers are aligned right."""
    table = Table(title=escape(figures.title), show_header=bool(figures.header))
    for i, name in enumerate(figures.header):
        is_number = i in figures.numeric
        table.add_column(escape(name), justify="right" if is_number else "left", overflow="fold")
    for row in figures.rows:
        if row:
            table.add_row(*map(escape, row))
        else:
            table.add_section()
    return table


def _spell(spans: Spans, tokens: list[int], vocab: ByteVocab, is_chunk: bool) -> str:
    spelled = _SEPARATOR.join(spell_tokens(spans, tokens, vocab))
    return spelled if is_chunk or not tokens else f"~{spelled}"


def _fit(text: str, columns: int) -> str:
    if cell_len(text) > columns:
        return set_cell_size(text, columns - 1) + "…"
    return set_cell_size(text, columns)


def _print_rows(console: Console, top: Text, bottom: Text) -> None:
    for row in (top, bottom):
        console.print(row, soft_wrap=True, highlight=False)
    console.print()
