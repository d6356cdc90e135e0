"""Pictures of what others computed: the chunks of a text, and tables. Computes nothing."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosstok.alignment import Alignment
from crosstok.tokenizers import ByteVocab, Spans

_COLOURS = ("cyan", "yellow", "green", "magenta")
_SEPARATOR = "·"


def print_chunks(
    console: Console,
    source: Spans,
    target: Spans,
    alignment: Alignment,
    source_vocab: ByteVocab,
    target_vocab: ByteVocab,
) -> None:
    """Print the text cut by both tokenizers: source above target, a column for each chunk.

    Tokens of a chunk are parted by a middle dot, chunks by a bar; tokens in no chunk are red.
    """
    top, bottom = Text("source  "), Text("target  ")
    width = max(24, console.width)
    for number, cell in enumerate(_cells(source, target, alignment)):
        upper = _spell(source, cell.source, source_vocab)
        lower = _spell(target, cell.target, target_vocab)
        columns = max(len(upper), len(lower))
        if len(top) + columns + 1 > width and len(top) > 8:
            _print_rows(console, top, bottom)
            top, bottom = Text("        "), Text("        ")
        style = _COLOURS[number % len(_COLOURS)] if cell.is_chunk else "red"
        top.append(upper.ljust(columns), style).append("|", "dim")
        bottom.append(lower.ljust(columns), style).append("|", "dim")
    _print_rows(console, top, bottom)


def pair_table(numbers: Mapping[str, Any], source: str, target: str) -> Table:
    """The pair's numbers as ``PairReport.as_json`` gives them."""
    table = Table(title=f"{source}  →  {target}", show_header=False)
    table.add_row("bytes", f"{numbers['bytes']:,}")
    for side in ("source", "target"):
        tokens = numbers[f"{side}_tokens"]
        table.add_row(
            f"{side} tokens", f"{tokens:,}  ({numbers['bytes'] / max(1, tokens):.2f} bytes each)"
        )
    table.add_row("chunks", f"{numbers['chunks']:,}")
    table.add_row("one-to-one chunks", f"{numbers['one_to_one_share']:.1%}")
    table.add_row("coverage", f"{numbers['coverage']:.4%} of bytes lie in a chunk")
    table.add_row("comparable", f"{numbers['comparable']:.4%} of bytes no normaliser changed")
    table.add_row("overlapping tokens", f"{numbers['overlapping_tokens']:,}")
    if len(numbers["coverage_by_file"]) > 1:
        worst = min(numbers["coverage_by_file"].items(), key=lambda item: item[1])
        table.add_row("lowest coverage", f"{worst[1]:.4%} in {worst[0]}")
    return table


class _Cell:
    """Tokens that are shown one above the other: a chunk, or a token without one."""

    def __init__(self, source: list[int], target: list[int], is_chunk: bool) -> None:
        self.source, self.target, self.is_chunk = source, target, is_chunk


def _cells(source: Spans, target: Spans, alignment: Alignment) -> list[_Cell]:
    """Cells in the order of the text."""
    cells = []
    for chunk in range(alignment.num_chunks):
        cells.append(
            (
                int(alignment.chunk_ends[chunk]),
                _Cell(
                    np.flatnonzero(alignment.source_chunk_ids == chunk).tolist(),
                    np.flatnonzero(alignment.target_chunk_ids == chunk).tolist(),
                    True,
                ),
            )
        )
    for side, spans, ids in (
        ("source", source, alignment.source_chunk_ids),
        ("target", target, alignment.target_chunk_ids),
    ):
        for token in np.flatnonzero(ids < 0).tolist():
            tokens: dict[str, list[int]] = {"source": [], "target": [], side: [token]}
            cells.append((int(spans.ends[token]), _Cell(**tokens, is_chunk=False)))
    return [cell for _, cell in sorted(cells, key=lambda pair: pair[0])]


def _spell(spans: Spans, tokens: list[int], vocab: ByteVocab) -> str:
    roles = dict(spans.specials)
    return _SEPARATOR.join(
        f"<{roles[token]}>" if token in roles else _readable(vocab.token_bytes[spans.ids[token]])
        for token in tokens
    )


def _readable(token: bytes | None) -> str:
    """Text with blanks made visible; bytes that are no text as ``\\xNN``."""
    if token is None:
        return "<unk>"
    text = token.decode("utf-8", errors="backslashreplace")
    shown = text.replace(" ", "␣").replace("\n", "⏎").replace("\t", "⇥")
    return "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in shown)


def _print_rows(console: Console, top: Text, bottom: Text) -> None:
    console.print(top, soft_wrap=True)
    console.print(bottom, soft_wrap=True)
    console.print()


def outcome_table(counts: Mapping[str, Any], metrics: Mapping[str, float]) -> Table:
    """What a run did: where the embedding rows came from, and its metrics at the end."""
    table = Table(show_header=False)
    for name, value in {**counts, **metrics}.items():
        shown = str(value) if isinstance(value, bool | int) else f"{value:,.4g}"
        table.add_row(name.replace("_", " "), shown)
    return table
